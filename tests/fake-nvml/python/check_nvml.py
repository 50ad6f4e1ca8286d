"""Checks the fake NVML with NVIDIA's own Python client, which knows the C layout by itself.

    LD_LIBRARY_PATH=<folder with libnvidia-ml.so.1> FAKE_NVML_SCENARIO=<file> python3 check_nvml.py

Overwrites the scenario file with the scenarios it needs. Prints each check; exits with 1 after the
first answer that differs.
"""

import copy
import json
import os
import sys
import threading
import time

import pynvml as nv

GIB = 1 << 30
CHECKED = 0

GPUS = [
    {
        "uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000",
        "name": "NVIDIA RTX A6000",
        "serial": "1322521000000",
        "pci": "00000001:3b:00.0",
        "pci_device_id": 0x223010DE,
        "pci_subsystem_id": 0x145910DE,
        "minor": 3,
        "memory_total": 48 * GIB,
        "memory_used": 4 * GIB,
        "memory_reserved": GIB,
        "util_gpu": 97,
        "util_memory": 41,
        "temperature": 71,
        "power_mw": 287000,
        "power_limit_mw": 300000,
        "clocks_mhz": {"graphics": 1800, "sm": 1801, "memory": 8001, "video": 1500},
        "throttle_reasons": 0x24,
        "processes": [
            {"pid": 4242, "used": 4194304000, "util_sm": 90},
            {"pid": 4243},
            {"pid": 17, "used": 5, "type": "graphics"},
            {"pid": 18, "used": 6, "type": "mps"},
        ],
        "ecc": {
            "enabled": True,
            "pending": False,
            "volatile": {"corrected": 3, "uncorrected": 1},
            "aggregate": {"corrected": 30, "uncorrected": 10},
        },
        "remapped_rows": {"correctable": 1, "uncorrectable": 2, "pending": True, "failed": False},
        "nvlinks": [{"remote": {"gpu": 1}, "version": 3}, {"remote": {"gpu": 1}, "active": False}],
        "architecture": "ampere",
        "compute_capability": [8, 6],
        "numa_node": 1,
        "brand": 13,
        "display_active": True,
        "persistence_mode": True,
        "fan_speed": 30,
        "performance_state": 2,
        "fields": {"82": 88},
    },
    {
        "uuid": "GPU-bbbbbbbb-0000-0000-0000-000000000001",
        "name": "NVIDIA A100-SXM4-80GB",
        "pci": "00000000:86:00.0",
        "minor": 4,
        "memory_total": 80 * GIB,
        "util_gpu": 1,
        "util_memory": 1,
        "nvlinks": [{"remote": {"gpu": 0}}, {"remote": {"switch": "00000000:05:00.0"}}],
        "mig": {
            "enabled": True,
            "devices": [
                {
                    "uuid": "MIG-cccccccc-1111-0000-0000-000000000000",
                    "gi": 2,
                    "ci": 1,
                    "profile": "2c.3g.40gb",
                    "slices": 3,
                    "compute_slices": 2,
                    "multiprocessors": 28,
                    "memory_total": 40 * GIB,
                    "memory_used": 10 * GIB,
                    "processes": [{"pid": 5151, "used": 10 * GIB}],
                }
            ],
        },
    },
]
SCENARIO = {
    "versions": {"driver": "570.86.15", "nvml": "12.570.86.15", "cuda": 12080},
    "ancestors": {"0-1": 40},
    "gpus": GPUS,
}


def main():
    write(SCENARIO)
    nv.nvmlInit()
    one = nv.nvmlDeviceGetHandleByIndex(0)
    other = nv.nvmlDeviceGetHandleByIndex(1)
    check_machine(one, other)
    check_identity(one)
    check_readings(one)
    check_processes(one, other)
    check_errors_of_memory(one, other)
    check_mig(one, other)
    check_links(one, other)
    check_what_is_missing(other)
    check_events(one, other)
    check_faults(one)
    check_shutdown()
    print(f"{CHECKED} answers as expected, nvidia-ml-py against the fake")


def check_machine(one, other):
    same("driver version", nv.nvmlSystemGetDriverVersion(), "570.86.15")
    same("NVML version", nv.nvmlSystemGetNVMLVersion(), "12.570.86.15")
    same("CUDA version", nv.nvmlSystemGetCudaDriverVersion(), 12080)
    same("CUDA version, second form", nv.nvmlSystemGetCudaDriverVersion_v2(), 12080)
    same("count", nv.nvmlDeviceGetCount(), 2)
    same("by UUID", index(nv.nvmlDeviceGetHandleByUUID(GPUS[1]["uuid"])), 1)
    same("by serial", index(nv.nvmlDeviceGetHandleBySerial("1322521000000")), 0)
    same("by PCI address", index(nv.nvmlDeviceGetHandleByPciBusId("00000001:3B:00.0")), 0)
    same("by short PCI address", index(nv.nvmlDeviceGetHandleByPciBusId("0000:86:00.0")), 1)
    fails("index beyond", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetHandleByIndex, 2)
    fails("unknown UUID", nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetHandleByUUID, "GPU-nowhere")
    same("handles are equal", address(nv.nvmlDeviceGetHandleByIndex(0)), address(one))
    same("handles differ", address(one) == address(other), False)


def check_identity(gpu):
    same("name", nv.nvmlDeviceGetName(gpu), "NVIDIA RTX A6000")
    same("UUID", nv.nvmlDeviceGetUUID(gpu), GPUS[0]["uuid"])
    same("serial", nv.nvmlDeviceGetSerial(gpu), "1322521000000")
    same("minor", nv.nvmlDeviceGetMinorNumber(gpu), 3)
    pci = nv.nvmlDeviceGetPciInfo(gpu)
    same("PCI domain, bus, device", (pci.domain, pci.bus, pci.device), (1, 0x3B, 0))
    same("PCI ids", (pci.pciDeviceId, pci.pciSubSystemId), (0x223010DE, 0x145910DE))
    same("PCI text", words(pci.busId), "00000001:3B:00.0")
    same("PCI short text", words(pci.busIdLegacy), "0001:3B:00.0")
    same("architecture", nv.nvmlDeviceGetArchitecture(gpu), nv.NVML_DEVICE_ARCH_AMPERE)
    same("capability", tuple(nv.nvmlDeviceGetCudaComputeCapability(gpu)), (8, 6))
    same("NUMA node", nv.nvmlDeviceGetNumaNodeId(gpu), 1)
    same("brand", nv.nvmlDeviceGetBrand(gpu), nv.NVML_BRAND_NVIDIA_RTX)
    same("display", nv.nvmlDeviceGetDisplayActive(gpu), nv.NVML_FEATURE_ENABLED)
    same("persistence", nv.nvmlDeviceGetPersistenceMode(gpu), nv.NVML_FEATURE_ENABLED)


def check_readings(gpu):
    memory = nv.nvmlDeviceGetMemoryInfo(gpu)
    same("memory", (memory.total, memory.free, memory.used), (48 * GIB, 43 * GIB, 5 * GIB))
    memory = nv.nvmlDeviceGetMemoryInfo(gpu, version=nv.nvmlMemory_v2)
    same("memory, second form: total, free", (memory.total, memory.free), (48 * GIB, 43 * GIB))
    same("memory, second form: reserved, used", (memory.reserved, memory.used), (GIB, 4 * GIB))
    fails("memory, a form that is not", nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
          nv.nvmlDeviceGetMemoryInfo, gpu, version=0x03000028)
    load = nv.nvmlDeviceGetUtilizationRates(gpu)
    same("utilisation", (load.gpu, load.memory), (97, 41))
    same("temperature", nv.nvmlDeviceGetTemperature(gpu, nv.NVML_TEMPERATURE_GPU), 71)
    same("temperature, newer form", nv.nvmlDeviceGetTemperatureV(gpu, nv.NVML_TEMPERATURE_GPU), 71)
    same("power", nv.nvmlDeviceGetPowerUsage(gpu), 287000)
    same("power limit", nv.nvmlDeviceGetEnforcedPowerLimit(gpu), 300000)
    clocks = [nv.nvmlDeviceGetClockInfo(gpu, clock) for clock in range(4)]
    same("clocks", clocks, [1800, 1801, 8001, 1500])
    same("throttle reasons", nv.nvmlDeviceGetCurrentClocksThrottleReasons(gpu), 0x24)
    same("clock event reasons", nv.nvmlDeviceGetCurrentClocksEventReasons(gpu), 0x24)
    same("fan", nv.nvmlDeviceGetFanSpeed(gpu), 30)
    same("performance state", nv.nvmlDeviceGetPerformanceState(gpu), 2)
    ids = [nv.NVML_FI_DEV_MEMORY_TEMP, nv.NVML_FI_DEV_REMAPPED_UNC, 1]
    fields = nv.nvmlDeviceGetFieldValues(gpu, ids)
    same("field codes", [field.nvmlReturn for field in fields], [0, 0, nv.NVML_ERROR_NOT_SUPPORTED])
    same("field values", [field.value.ullVal for field in fields[:2]], [88, 2])


def check_processes(one, other):
    programs = nv.nvmlDeviceGetComputeRunningProcesses(one)
    same("programs", [(p.pid, p.usedGpuMemory) for p in programs], [(4242, 4194304000), (4243, None)])
    older = nv.nvmlDeviceGetComputeRunningProcesses_v2(one)
    same("programs, older form", [p.pid for p in older], [4242, 4243])
    graphics = nv.nvmlDeviceGetGraphicsRunningProcesses(one)
    same("graphics programs", [(p.pid, p.usedGpuMemory) for p in graphics], [(17, 5)])
    shared = nv.nvmlDeviceGetMPSComputeRunningProcesses(one)
    same("MPS programs", [p.pid for p in shared], [18])
    same("no programs", nv.nvmlDeviceGetGraphicsRunningProcesses(other), [])
    samples = nv.nvmlDeviceGetProcessUtilization(one, 0)
    same("utilisation by program", [(s.pid, s.smUtil) for s in samples], [(4242, 90)])


def check_errors_of_memory(one, other):
    same("ECC mode", tuple(nv.nvmlDeviceGetEccMode(one)), (1, 0))
    counts = [nv.nvmlDeviceGetTotalEccErrors(one, kind, counter) for counter in (0, 1) for kind in (0, 1)]
    same("ECC counters", counts, [3, 1, 30, 10])
    same("remapped rows", tuple(nv.nvmlDeviceGetRemappedRows(one)), (1, 2, 1, 0))
    fails("no ECC", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetEccMode, other)
    fails("no remapping", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetRemappedRows, other)


def check_mig(one, other):
    fails("cannot be divided", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetMigMode, one)
    same("MIG mode", tuple(nv.nvmlDeviceGetMigMode(other)), (1, 1))
    same("most instances", nv.nvmlDeviceGetMaxMigDeviceCount(other), 7)
    mig = nv.nvmlDeviceGetMigDeviceHandleByIndex(other, 0)
    fails("no instance", nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetMigDeviceHandleByIndex, other, 1)
    same("instance UUID", nv.nvmlDeviceGetUUID(mig), "MIG-cccccccc-1111-0000-0000-000000000000")
    same("instance name", nv.nvmlDeviceGetName(mig), "NVIDIA A100-SXM4-80GB MIG 2c.3g.40gb")
    same("is an instance", nv.nvmlDeviceIsMigDeviceHandle(mig).value, 1)
    same("is none", nv.nvmlDeviceIsMigDeviceHandle(other).value, 0)
    ids = (nv.nvmlDeviceGetGpuInstanceId(mig), nv.nvmlDeviceGetComputeInstanceId(mig))
    same("instance ids", ids, (2, 1))
    parent = nv.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
    same("parent", address(parent), address(other))
    what = nv.nvmlDeviceGetAttributes(mig)
    same("attributes", (what.multiprocessorCount, what.memorySizeMB), (28, 40 * 1024))
    same("slices", (what.gpuInstanceSliceCount, what.computeInstanceSliceCount), (3, 2))
    same("instance memory", nv.nvmlDeviceGetMemoryInfo(mig).used, 10 * GIB)
    for name, device in (("instance", mig), ("parent", other)):
        programs = nv.nvmlDeviceGetComputeRunningProcesses(device)
        seen = [(p.pid, p.gpuInstanceId, p.computeInstanceId) for p in programs]
        same(f"programs of the {name}", seen, [(5151, 2, 1)])
    fails("utilisation while divided", nv.NVML_ERROR_NOT_SUPPORTED,
          nv.nvmlDeviceGetUtilizationRates, other)


def check_links(one, other):
    same("link up", nv.nvmlDeviceGetNvLinkState(one, 0), nv.NVML_FEATURE_ENABLED)
    same("link down", nv.nvmlDeviceGetNvLinkState(one, 1), nv.NVML_FEATURE_DISABLED)
    same("link version", nv.nvmlDeviceGetNvLinkVersion(one, 0), 3)
    same("link peer", words(nv.nvmlDeviceGetNvLinkRemotePciInfo(one, 0).busId), "00000000:86:00.0")
    same("peer is a GPU", nv.nvmlDeviceGetNvLinkRemoteDeviceType(one, 0), 0)
    same("peer is a switch", nv.nvmlDeviceGetNvLinkRemoteDeviceType(other, 1), 2)
    fails("no such link", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetNvLinkState, one, 2)
    fails("link beyond", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetNvLinkState, one, 18)
    same("ancestor", nv.nvmlDeviceGetTopologyCommonAncestor(one, other), nv.NVML_TOPOLOGY_NODE)
    same("ancestor of itself", nv.nvmlDeviceGetTopologyCommonAncestor(one, one), 0)
    near = nv.nvmlDeviceGetTopologyNearestGpus(one, nv.NVML_TOPOLOGY_NODE)
    same("nearest", [index(gpu) for gpu in near], [1])
    status = nv.nvmlDeviceGetP2PStatus(one, other, nv.NVML_P2P_CAPS_INDEX_NVLINK)
    same("joined by NVLink", status, nv.NVML_P2P_STATUS_OK)


def check_what_is_missing(gpu):
    for name, call in (
        ("power", nv.nvmlDeviceGetPowerUsage),
        ("serial", nv.nvmlDeviceGetSerial),
        ("NUMA node", nv.nvmlDeviceGetNumaNodeId),
        ("clock reasons", nv.nvmlDeviceGetCurrentClocksEventReasons),
        ("VBIOS", nv.nvmlDeviceGetVbiosVersion),
        ("GPM", nv.nvmlGpmQueryDeviceSupport),
    ):
        fails(f"{name} is not stated", nv.NVML_ERROR_NOT_SUPPORTED, call, gpu)


def check_events(one, other):
    kinds = nv.nvmlDeviceGetSupportedEventTypes(one)
    same("critical errors can be watched", kinds & nv.nvmlEventTypeXidCriticalError, 8)
    events = nv.nvmlEventSetCreate()
    for gpu in (one, other):
        nv.nvmlDeviceRegisterEvents(gpu, nv.nvmlEventTypeXidCriticalError, events)
    fails("nothing happens", nv.NVML_ERROR_TIMEOUT, nv.nvmlEventSetWait_v2, events, 50)

    happening = [{"seq": 2, "gpu": 0, "data": 79}, {"seq": 1, "gpu": 1, "type": 8, "data": 13}]
    later = threading.Timer(0.2, write, [{**SCENARIO, "events": happening}])
    later.start()
    event = nv.nvmlEventSetWait_v2(events, 5000)
    same("first event", (address(event.device), event.eventType, event.eventData), (address(other), 8, 13))
    same("of no instance", (event.gpuInstanceId, event.computeInstanceId), (0xFFFFFFFF, 0xFFFFFFFF))
    event = nv.nvmlEventSetWait_v2(events, 5000)
    same("second event", (address(event.device), event.eventData), (address(one), 79))
    later.join()
    fails("told once", nv.NVML_ERROR_TIMEOUT, nv.nvmlEventSetWait_v2, events, 50)
    fails("lost", nv.NVML_ERROR_GPU_IS_LOST, nv.nvmlDeviceGetUUID, event.device)
    fails("lost by index", nv.NVML_ERROR_GPU_IS_LOST, nv.nvmlDeviceGetHandleByIndex, 0)
    same("the other answers", nv.nvmlDeviceGetUUID(other), GPUS[1]["uuid"])
    write(SCENARIO)
    same("back again", nv.nvmlDeviceGetUUID(one), GPUS[0]["uuid"])
    nv.nvmlEventSetFree(events)
    fails("a freed set", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlEventSetWait_v2, events, 50)


def check_faults(gpu):
    write(first_gpu({"errors": {"nvmlDeviceGetPowerUsage": nv.NVML_ERROR_FUNCTION_NOT_FOUND}}))
    fails("absent", nv.NVML_ERROR_FUNCTION_NOT_FOUND, nv.nvmlDeviceGetPowerUsage, gpu)
    write(first_gpu({"delay_ms": {"nvmlDeviceGetMinorNumber": 200}}))
    started = time.monotonic()
    same("late", nv.nvmlDeviceGetMinorNumber(gpu), 3)
    same("by as much as stated", time.monotonic() - started >= 0.2, True)
    write(first_gpu({"delay_ms": {"*": "hang"}}))
    threading.Timer(0.3, write, [SCENARIO]).start()
    started = time.monotonic()
    same("hung", nv.nvmlDeviceGetMinorNumber(gpu), 3)
    same("until the file changed", 0.25 <= time.monotonic() - started < 5, True)
    write(first_gpu({"lost": True}))
    fails("stated as lost", nv.NVML_ERROR_GPU_IS_LOST, nv.nvmlDeviceGetPowerUsage, gpu)


def check_shutdown():
    nv.nvmlShutdown()
    fails("after the end", nv.NVML_ERROR_UNINITIALIZED, nv.nvmlDeviceGetCount)
    write({"gpus": [], "init_error": nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH})
    fails("versions differ", nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH, nv.nvmlInit)
    os.remove(os.environ["FAKE_NVML_SCENARIO"])
    fails("no driver", nv.NVML_ERROR_DRIVER_NOT_LOADED, nv.nvmlInit)


def first_gpu(members):
    changed = copy.deepcopy(SCENARIO)
    changed["gpus"][0].update(members)
    return changed


def write(scenario):
    """Replaces the scenario in one step."""
    path = os.environ["FAKE_NVML_SCENARIO"]
    with open(path + ".next", "w", encoding="utf-8") as file:
        json.dump(scenario, file)
    os.replace(path + ".next", path)


def index(gpu):
    return nv.nvmlDeviceGetIndex(gpu)


def address(handle):
    return nv.cast(handle, nv.c_void_p).value


def words(text):
    return text.decode() if isinstance(text, bytes) else text


def same(what, got, wanted):
    global CHECKED
    if got != wanted:
        sys.exit(f"MISMATCH {what}: {got!r} instead of {wanted!r}")
    CHECKED += 1
    print(f"ok {what}: {got!r}")


def fails(what, code, call, *arguments, **options):
    try:
        got = call(*arguments, **options)
    except nv.NVMLError as error:
        same(what, error.value, code)
    else:
        sys.exit(f"MISMATCH {what}: {got!r} instead of error {code}")


if __name__ == "__main__":
    main()
