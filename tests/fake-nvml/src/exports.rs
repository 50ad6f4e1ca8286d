//! The C functions: arguments in, an answer out, everything else from `state`.
//!
//! Each function traces its name, keeps panics to itself (they become UNKNOWN) and writes only
//! through the pointers it was given: never through a null one, never beyond a stated length. The
//! table in [`exports!`] is the list of what the library can do.
//!
//! No function can be left out at run time; a scenario makes one look absent with error 13.

#![expect(
    unsafe_code,
    reason = "a C interface works on the memory of its callers"
)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::layout::{
    Code, DeviceAttributes, EventData, FieldValue, Handle, Memory, MemoryV2, NO_INSTANCE, PciInfo,
    ProcessInfo, ProcessInfoV1, ProcessSample, TemperatureV1, Utilization, VALUE_NOT_AVAILABLE,
    version,
};
use crate::scenario::{
    Clocks, EccCounts, Gpu, Mig, NvLink, PciAddress, Process, ProcessKind, Remote,
};
use crate::state::{self, Call, Spot};

/// Names the scenario file.
const SCENARIO_VARIABLE: &str = "FAKE_NVML_SCENARIO";

/// Names a file to which each called symbol is appended.
const TRACE_VARIABLE: &str = "FAKE_NVML_TRACE";

/// Links that any GPU may have; numbers beyond are no links.
const NVLINK_MAX: c_uint = 18;

/// Instances that any GPU may be divided into.
const MIG_DEVICES_MAX: c_uint = 7;

/// Sorts of event that can be watched: memory errors, performance state, critical errors, clocks,
/// power source, change of MIG configuration.
const EVENT_TYPES: u64 = 0x19f;

/// Writes the functions: from a table of `name(arguments) => what to do, given the name`, and from
/// mere names such as answer NOT_SUPPORTED, for a GPU that is there or for the machine.
macro_rules! exports {
    (
        answered { $($name:ident($($arg:ident: $kind:ty),* $(,)?) => $act:expr;)* }
        unsupported { $($quiet:ident,)* }
        unsupported without device { $($blind:ident,)* }
    ) => {
        /// Every symbol that a scenario may name.
        pub(crate) const SYMBOLS: &[&str] =
            &[$(stringify!($name),)* $(stringify!($quiet),)* $(stringify!($blind),)*];

        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $kind),*) -> c_uint {
                guard(stringify!($name), $act)
            }
        )*
        // These have more parameters than stated. C leaves them with the caller, who also clears
        // them away, so a function that looks at none of them need not name them.
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $quiet(device: Handle) -> c_uint {
                guard(stringify!($quiet), |at| {
                    state::enter_device(at, device)?;
                    Err(Code::NOT_SUPPORTED)
                })
            }
        )*
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $blind() -> c_uint {
                guard(stringify!($blind), |at| {
                    state::enter(at, |_| Ok(Spot::System))?;
                    Err(Code::NOT_SUPPORTED)
                })
            }
        )*
    };
}

exports! {
    answered {
        nvmlInit() => init;
        nvmlInit_v2() => init;
        nvmlInitWithFlags(_flags: c_uint) => init;
        nvmlShutdown() => |_| state::shutdown();

        nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) =>
            |at| put_text(out, length, &system(at)?.scenario.versions.driver);
        nvmlSystemGetNVMLVersion(out: *mut c_char, length: c_uint) =>
            |at| put_text(out, length, &system(at)?.scenario.versions.nvml);
        nvmlSystemGetCudaDriverVersion(out: *mut c_int) =>
            |at| put(out, system(at)?.scenario.versions.cuda);
        nvmlSystemGetCudaDriverVersion_v2(out: *mut c_int) =>
            |at| put(out, system(at)?.scenario.versions.cuda);

        nvmlDeviceGetCount(out: *mut c_uint) => |at| put(out, count(&system(at)?.scenario.gpus));
        nvmlDeviceGetCount_v2(out: *mut c_uint) => |at| put(out, count(&system(at)?.scenario.gpus));
        nvmlDeviceGetHandleByIndex(index: c_uint, out: *mut Handle) =>
            |at| handle_by_index(at, index, out);
        nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut Handle) =>
            |at| handle_by_index(at, index, out);
        nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: *mut Handle) => |at| {
            let uuid = text(uuid)?;
            give(&state::enter(at, |state| state.locate_uuid(uuid))?, out)
        };
        nvmlDeviceGetHandleBySerial(serial: *const c_char, out: *mut Handle) => |at| {
            let serial = text(serial)?;
            let same = |gpu: &Gpu| gpu.serial.as_deref() == Some(serial);
            give(&state::enter(at, |state| state.find(same))?, out)
        };
        nvmlDeviceGetHandleByPciBusId(address: *const c_char, out: *mut Handle) =>
            |at| handle_by_address(at, address, out);
        nvmlDeviceGetHandleByPciBusId_v2(address: *const c_char, out: *mut Handle) =>
            |at| handle_by_address(at, address, out);

        nvmlDeviceGetIndex(device: Handle, out: *mut c_uint) => |at| get(at, device, out, |call| {
            match call.spot {
                Spot::Gpu(index) | Spot::Mig(_, index) => Ok(index as c_uint),
                Spot::System => Err(Code::INVALID_ARGUMENT),
            }
        });
        nvmlDeviceGetName(device: Handle, out: *mut c_char, length: c_uint) =>
            |at| get_text(at, device, (out, length), |call| {
                let name = &call.card()?.name;
                Ok(match call.mig() {
                    Some(mig) => format!("{name} MIG {}", mig.profile),
                    None => name.clone(),
                })
            });
        nvmlDeviceGetUUID(device: Handle, out: *mut c_char, length: c_uint) =>
            |at| get_text(at, device, (out, length), |call| uuid(call).map(str::to_owned));
        nvmlDeviceGetSerial(device: Handle, out: *mut c_char, length: c_uint) =>
            |at| get_text(at, device, (out, length), |call| told(call.gpu()?.serial.clone()));
        nvmlDeviceGetPciInfo_v3(device: Handle, out: *mut PciInfo) =>
            |at| get(at, device, out, |call| {
                let gpu = call.card()?;
                Ok(pci_info(gpu.pci, (gpu.pci_device_id, gpu.pci_subsystem_id)))
            });
        nvmlDeviceGetMinorNumber(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.gpu()?.minor));
        nvmlDeviceGetBrand(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.brand));
        nvmlDeviceGetArchitecture(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.card()?.architecture.map(|a| a as c_uint)));
        nvmlDeviceGetCudaComputeCapability(device: Handle, major: *mut c_int, minor: *mut c_int) =>
            |at| get_two(at, device, (major, minor), |call| told(call.card()?.compute_capability));
        nvmlDeviceGetNumaNodeId(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.numa_node));
        nvmlDeviceGetDisplayActive(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.gpu()?.display_active.into()));
        nvmlDeviceGetDisplayMode(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.gpu()?.display_active.into()));
        nvmlDeviceGetPersistenceMode(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.gpu()?.persistence_mode.into()));
        nvmlDeviceGetComputeMode(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| call.gpu().map(|_| 0));

        nvmlDeviceGetMemoryInfo(device: Handle, out: *mut Memory) =>
            |at| get(at, device, out, |call| {
                let MemoryV2 { total, free, .. } = memory(call)?;
                Ok(Memory { total, free, used: total - free })
            });
        nvmlDeviceGetMemoryInfo_v2(device: Handle, out: *mut MemoryV2) => |at| {
            check_version(take(out)?.version, version::<MemoryV2>(2))?;
            get(at, device, out, memory)
        };
        nvmlDeviceGetUtilizationRates(device: Handle, out: *mut Utilization) =>
            |at| get(at, device, out, |call| {
                let gpu = call.gpu()?;
                if gpu.mig.as_ref().is_some_and(|mig| mig.enabled) {
                    return Err(Code::NOT_SUPPORTED);
                }
                Ok(Utilization { gpu: told(gpu.util_gpu)?, memory: told(gpu.util_memory)? })
            });
        nvmlDeviceGetTemperature(device: Handle, sensor: c_uint, out: *mut c_uint) => |at| {
            check_sensor(sensor)?;
            get(at, device, out, |call| told(call.gpu()?.temperature))
        };
        nvmlDeviceGetTemperatureV(device: Handle, out: *mut TemperatureV1) => |at| {
            let asked = take(out)?;
            check_version(asked.version, version::<TemperatureV1>(1))?;
            check_sensor(asked.sensor)?;
            get(at, device, out, |call| {
                let celsius = told(call.gpu()?.temperature)? as c_int;
                Ok(TemperatureV1 { celsius, ..asked })
            })
        };
        nvmlDeviceGetPowerUsage(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.power_mw));
        nvmlDeviceGetEnforcedPowerLimit(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.power_limit_mw));
        nvmlDeviceGetPowerManagementLimit(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.power_limit_mw));
        nvmlDeviceGetFanSpeed(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.fan_speed));
        nvmlDeviceGetPerformanceState(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| told(call.gpu()?.performance_state));
        nvmlDeviceGetClockInfo(device: Handle, clock: c_uint, out: *mut c_uint) =>
            |at| get(at, device, out, |call| {
                clock_mhz(told(call.gpu()?.clocks_mhz.as_ref())?, clock)
            });
        nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, out: *mut u64) =>
            |at| get(at, device, out, |call| told(call.gpu()?.throttle_reasons));
        nvmlDeviceGetCurrentClocksEventReasons(device: Handle, out: *mut u64) =>
            |at| get(at, device, out, |call| told(call.gpu()?.throttle_reasons));
        nvmlDeviceGetFieldValues(device: Handle, length: c_int, values: *mut FieldValue) =>
            |at| field_values(at, device, length, values);

        nvmlDeviceGetComputeRunningProcesses(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfoV1,
        ) =>
            |at| processes(at, device, ProcessKind::Compute, (length, out));
        nvmlDeviceGetComputeRunningProcesses_v2(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Compute, (length, out));
        nvmlDeviceGetComputeRunningProcesses_v3(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Compute, (length, out));
        nvmlDeviceGetGraphicsRunningProcesses(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfoV1,
        ) =>
            |at| processes(at, device, ProcessKind::Graphics, (length, out));
        nvmlDeviceGetGraphicsRunningProcesses_v2(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Graphics, (length, out));
        nvmlDeviceGetGraphicsRunningProcesses_v3(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Graphics, (length, out));
        nvmlDeviceGetMPSComputeRunningProcesses(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfoV1,
        ) =>
            |at| processes(at, device, ProcessKind::Mps, (length, out));
        nvmlDeviceGetMPSComputeRunningProcesses_v2(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Mps, (length, out));
        nvmlDeviceGetMPSComputeRunningProcesses_v3(
            device: Handle, length: *mut c_uint, out: *mut ProcessInfo,
        ) =>
            |at| processes(at, device, ProcessKind::Mps, (length, out));
        nvmlDeviceGetProcessUtilization(
            device: Handle, out: *mut ProcessSample, length: *mut c_uint, _since: u64,
        ) =>
            |at| process_samples(at, device, (length, out));

        nvmlDeviceGetEccMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) =>
            |at| get_two(at, device, (current, pending), |call| {
                let ecc = told(call.gpu()?.ecc.as_ref())?;
                Ok((ecc.enabled.into(), ecc.pending.unwrap_or(ecc.enabled).into()))
            });
        nvmlDeviceGetTotalEccErrors(
            device: Handle, kind: c_uint, counter: c_uint, out: *mut u64,
        ) =>
            |at| get(at, device, out, |call| ecc_errors(call.gpu()?, kind, counter));
        nvmlDeviceGetRemappedRows(
            device: Handle, correctable: *mut c_uint, uncorrectable: *mut c_uint,
            pending: *mut c_uint, failed: *mut c_uint,
        ) => |at| {
            let call = state::enter_device(at, device)?;
            let rows = told(call.gpu()?.remapped_rows.as_ref())?;
            put(correctable, rows.correctable)?;
            put(uncorrectable, rows.uncorrectable)?;
            put(pending, rows.pending.into())?;
            put(failed, rows.failed.into())
        };

        nvmlDeviceGetMigMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) =>
            |at| get_two(at, device, (current, pending), |call| {
                let mig = told(call.gpu()?.mig.as_ref())?;
                Ok((mig.enabled.into(), mig.pending.unwrap_or(mig.enabled).into()))
            });
        nvmlDeviceGetMaxMigDeviceCount(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| {
                Ok(call.gpu()?.mig.as_ref().map_or(0, |_| MIG_DEVICES_MAX))
            });
        nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: c_uint, out: *mut Handle) =>
            |at| mig_handle(at, device, index, out);
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, out: *mut Handle) => |at| {
            let call = state::enter_device(at, device)?;
            call.instance()?;
            put_handle(&call.card()?.uuid, out)
        };
        nvmlDeviceIsMigDeviceHandle(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.mig().is_some().into()));
        nvmlDeviceGetGpuInstanceId(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.instance()?.gi));
        nvmlDeviceGetComputeInstanceId(device: Handle, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(call.instance()?.ci));
        nvmlDeviceGetAttributes(device: Handle, out: *mut DeviceAttributes) =>
            |at| get(at, device, out, attributes);
        nvmlDeviceGetAttributes_v2(device: Handle, out: *mut DeviceAttributes) =>
            |at| get(at, device, out, attributes);

        nvmlDeviceGetNvLinkState(device: Handle, link: c_uint, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(nvlink(call, link)?.active.into()));
        nvmlDeviceGetNvLinkVersion(device: Handle, link: c_uint, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(nvlink(call, link)?.version));
        nvmlDeviceGetNvLinkRemotePciInfo(device: Handle, link: c_uint, out: *mut PciInfo) =>
            |at| get(at, device, out, |call| remote_pci(call, link));
        nvmlDeviceGetNvLinkRemotePciInfo_v2(device: Handle, link: c_uint, out: *mut PciInfo) =>
            |at| get(at, device, out, |call| remote_pci(call, link));
        nvmlDeviceGetNvLinkRemoteDeviceType(device: Handle, link: c_uint, out: *mut c_uint) =>
            |at| get(at, device, out, |call| Ok(match nvlink(call, link)?.remote {
                Remote::Gpu(_) => 0,
                Remote::Switch(_) => 2,
            }));
        nvmlDeviceGetTopologyCommonAncestor(one: Handle, other: Handle, out: *mut c_uint) =>
            |at| get_pair(at, (one, other), out, |call, (a, b)| Ok(call.scenario.ancestor(a, b)));
        nvmlDeviceOnSameBoard(one: Handle, other: Handle, out: *mut c_int) =>
            |at| get_pair(at, (one, other), out, |call, (a, b)| {
                Ok((call.scenario.ancestor(a, b) == 0).into())
            });
        nvmlDeviceGetP2PStatus(one: Handle, other: Handle, capability: c_uint, out: *mut c_uint) =>
            |at| get_pair(at, (one, other), out, |call, pair| p2p_status(call, pair, capability));
        nvmlDeviceGetTopologyNearestGpus(
            device: Handle, level: c_uint, length: *mut c_uint, out: *mut Handle,
        ) =>
            |at| nearest_gpus(at, device, level, (length, out));

        nvmlDeviceGetSupportedEventTypes(device: Handle, out: *mut u64) =>
            |at| get(at, device, out, |call| call.gpu().map(|_| EVENT_TYPES));
        nvmlEventSetCreate(out: *mut Handle) => |at| {
            system(at)?;
            put(out, state::with(|state| Ok(state.make_set()))?)
        };
        nvmlDeviceRegisterEvents(device: Handle, kinds: u64, set: Handle) => |at| {
            let call = state::enter_device(at, device)?;
            let gpu = call.gpu()?;
            if kinds & !EVENT_TYPES != 0 {
                return Err(Code::NOT_SUPPORTED);
            }
            state::with(|state| state.watch(set, &gpu.uuid, kinds))
        };
        nvmlEventSetWait(set: Handle, out: *mut EventData, timeout_ms: c_uint) =>
            |at| wait_event(at, set, out, timeout_ms);
        nvmlEventSetWait_v2(set: Handle, out: *mut EventData, timeout_ms: c_uint) =>
            |at| wait_event(at, set, out, timeout_ms);
        nvmlEventSetFree(set: Handle) => |at| {
            system(at)?;
            state::with(|state| state.drop_set(set))
        };
    }
    unsupported {
        nvmlDeviceGetAccountingMode,
        nvmlDeviceGetBAR1MemoryInfo,
        nvmlDeviceGetBoardId,
        nvmlDeviceGetBoardPartNumber,
        nvmlDeviceGetBusType,
        nvmlDeviceGetCpuAffinity,
        nvmlDeviceGetCpuAffinityWithinScope,
        nvmlDeviceGetCurrPcieLinkGeneration,
        nvmlDeviceGetCurrPcieLinkWidth,
        nvmlDeviceGetDecoderUtilization,
        nvmlDeviceGetDetailedEccErrors,
        nvmlDeviceGetEncoderUtilization,
        nvmlDeviceGetFanSpeed_v2,
        nvmlDeviceGetGpuFabricInfo,
        nvmlDeviceGetGpuFabricInfoV,
        nvmlDeviceGetGpuInstanceProfileInfo,
        nvmlDeviceGetGspFirmwareMode,
        nvmlDeviceGetGspFirmwareVersion,
        nvmlDeviceGetMaxClockInfo,
        nvmlDeviceGetMaxPcieLinkGeneration,
        nvmlDeviceGetMaxPcieLinkWidth,
        nvmlDeviceGetMemoryAffinity,
        nvmlDeviceGetMemoryBusWidth,
        nvmlDeviceGetMemoryErrorCounter,
        nvmlDeviceGetNumFans,
        nvmlDeviceGetNumGpuCores,
        nvmlDeviceGetNvLinkCapability,
        nvmlDeviceGetNvLinkErrorCounter,
        nvmlDeviceGetPcieThroughput,
        nvmlDeviceGetPowerManagementDefaultLimit,
        nvmlDeviceGetPowerManagementLimitConstraints,
        nvmlDeviceGetPowerManagementMode,
        nvmlDeviceGetPowerState,
        nvmlDeviceGetRetiredPages,
        nvmlDeviceGetRetiredPages_v2,
        nvmlDeviceGetRetiredPagesPendingStatus,
        nvmlDeviceGetRowRemapperHistogram,
        nvmlDeviceGetSamples,
        nvmlDeviceGetSramEccErrorStatus,
        nvmlDeviceGetSupportedClocksEventReasons,
        nvmlDeviceGetSupportedClocksThrottleReasons,
        nvmlDeviceGetTemperatureThreshold,
        nvmlDeviceGetTotalEnergyConsumption,
        nvmlDeviceGetVbiosVersion,
        nvmlDeviceGetViolationStatus,
        nvmlDeviceGetVirtualizationMode,
        nvmlGpmMigSampleGet,
        nvmlGpmQueryDeviceSupport,
        nvmlGpmQueryIfStreamingEnabled,
        nvmlGpmSampleGet,
        nvmlGpmSetStreamingEnabled,
    }
    unsupported without device {
        nvmlGpmMetricsGet,
        nvmlGpmSampleAlloc,
        nvmlGpmSampleFree,
        nvmlSystemGetProcessName,
    }
}

/// The one function that answers no code; the text is for people.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: c_uint) -> *const c_char {
    let text = match Code(code) {
        Code::SUCCESS => c"Success",
        Code::UNINITIALIZED => c"Uninitialized",
        Code::INVALID_ARGUMENT => c"Invalid Argument",
        Code::NOT_SUPPORTED => c"Not Supported",
        Code::NOT_FOUND => c"Not Found",
        Code::INSUFFICIENT_SIZE => c"Insufficient Size",
        Code::DRIVER_NOT_LOADED => c"Driver Not Loaded",
        Code::TIMEOUT => c"Timeout",
        Code::GPU_IS_LOST => c"GPU is lost",
        Code::ARGUMENT_VERSION_MISMATCH => c"Argument version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

fn init(at: &str) -> Result<(), Code> {
    state::init(at, std::env::var_os(SCENARIO_VARIABLE).map(PathBuf::from))
}

fn handle_by_index(at: &str, index: c_uint, out: *mut Handle) -> Result<(), Code> {
    let call = state::enter(at, |state| {
        match (index as usize) < state.scenario().gpus.len() {
            true => Ok(Spot::Gpu(index as usize)),
            false => Err(Code::INVALID_ARGUMENT),
        }
    })?;
    give(&call, out)
}

fn handle_by_address(at: &str, address: *const c_char, out: *mut Handle) -> Result<(), Code> {
    let address: PciAddress = text(address)?.parse().map_err(|_| Code::INVALID_ARGUMENT)?;
    give(
        &state::enter(at, |state| state.find(|gpu| gpu.pci == address))?,
        out,
    )
}

fn mig_handle(at: &str, device: Handle, index: c_uint, out: *mut Handle) -> Result<(), Code> {
    let call = state::enter_device(at, device)?;
    let gpu = call.gpu()?;
    told(gpu.mig.as_ref().filter(|mig: &&Mig| mig.enabled))?;
    let instance = gpu.instances().get(index as usize).ok_or(Code::NOT_FOUND)?;
    put_handle(&instance.uuid, out)
}

fn memory(call: &Call) -> Result<MemoryV2, Code> {
    let (total, used, reserved) = match call.mig() {
        Some(mig) => (mig.memory_total, mig.memory_used, mig.memory_reserved),
        None => {
            let gpu = call.gpu()?;
            (gpu.memory_total, gpu.memory_used, gpu.memory_reserved)
        }
    };
    let free = total.saturating_sub(used).saturating_sub(reserved);
    Ok(MemoryV2 {
        version: version::<MemoryV2>(2),
        total,
        reserved,
        free,
        used,
    })
}

fn attributes(call: &Call) -> Result<DeviceAttributes, Code> {
    let mig = call.instance()?;
    Ok(DeviceAttributes {
        multiprocessors: mig.multiprocessors,
        copy_engines: 1,
        decoders: 0,
        encoders: 0,
        jpeg_engines: 0,
        flow_engines: 0,
        gpu_instance_slices: mig.slices,
        compute_instance_slices: mig.compute_slices.unwrap_or(mig.slices),
        memory_mib: mig.memory_total >> 20,
    })
}

fn clock_mhz(clocks: &Clocks, clock: c_uint) -> Result<c_uint, Code> {
    match clock {
        0 => Ok(clocks.graphics),
        1 => Ok(clocks.sm),
        2 => Ok(clocks.memory),
        3 => Ok(clocks.video),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn ecc_errors(gpu: &Gpu, kind: c_uint, counter: c_uint) -> Result<u64, Code> {
    let ecc = told(gpu.ecc.as_ref().filter(|ecc| ecc.enabled))?;
    let counts: &EccCounts = match counter {
        0 => &ecc.volatile,
        1 => &ecc.aggregate,
        _ => return Err(Code::INVALID_ARGUMENT),
    };
    match kind {
        0 => Ok(counts.corrected),
        1 => Ok(counts.uncorrected),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn nvlink(call: &Call, link: c_uint) -> Result<&NvLink, Code> {
    if link >= NVLINK_MAX {
        return Err(Code::INVALID_ARGUMENT);
    }
    told(call.gpu()?.nvlinks.get(link as usize))
}

fn remote_pci(call: &Call, link: c_uint) -> Result<PciInfo, Code> {
    let link = nvlink(call, link)?;
    match link.remote {
        _ if !link.active => Err(Code::NOT_SUPPORTED),
        Remote::Gpu(gpu) => {
            let gpu = &call.scenario.gpus[gpu];
            Ok(pci_info(gpu.pci, (gpu.pci_device_id, gpu.pci_subsystem_id)))
        }
        Remote::Switch(address) => Ok(pci_info(address, (0, 0))),
    }
}

fn pci_info(address: PciAddress, (device_id, subsystem_id): (u32, u32)) -> PciInfo {
    let PciAddress {
        domain,
        bus,
        device,
        function,
    } = address;
    PciInfo {
        legacy_bus_id: fixed(&format!("{domain:04X}:{bus:02X}:{device:02X}.{function}")),
        domain,
        bus,
        device,
        device_id,
        subsystem_id,
        bus_id: fixed(&format!("{domain:08X}:{bus:02X}:{device:02X}.{function}")),
    }
}

fn p2p_status(
    call: &Call,
    (one, other): (usize, usize),
    capability: c_uint,
) -> Result<c_uint, Code> {
    const HOST_BRIDGE: u32 = 30;
    const OK: c_uint = 0;
    const CHIPSET_NOT_SUPPORTED: c_uint = 1;
    const NOT_SUPPORTED: c_uint = 5;
    let linked = call.scenario.joined_by_nvlink(one, other);
    let near = call.scenario.ancestor(one, other) <= HOST_BRIDGE;
    match capability {
        0 | 1 if linked || near => Ok(OK),
        2 | 3 if linked => Ok(OK),
        4 if near => Ok(OK),
        2 => Ok(NOT_SUPPORTED),
        0 | 1 | 3 | 4 => Ok(CHIPSET_NOT_SUPPORTED),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn nearest_gpus(
    at: &str,
    device: Handle,
    level: c_uint,
    (length, out): (*mut c_uint, *mut Handle),
) -> Result<(), Code> {
    let call = state::enter_device(at, device)?;
    let own = index(&call)?;
    let gpus = call.scenario.gpus.iter().enumerate();
    let near =
        gpus.filter(|(other, _)| *other != own && call.scenario.ancestor(own, *other) == level);
    let near: Vec<Handle> =
        state::with(|state| Ok(near.map(|(_, gpu)| state.handle(&gpu.uuid)).collect()))?;
    if out.is_null() {
        return put(length, count(&near));
    }
    let room = (take(length)? as usize).min(near.len());
    put(length, room as c_uint)?;
    put_all(out, &near[..room])
}

/// A program as one of the structures that tell of it.
trait Told {
    fn new(process: &Process, instances: (u32, u32)) -> Self;
}

impl Told for ProcessInfoV1 {
    fn new(process: &Process, _: (u32, u32)) -> Self {
        Self {
            pid: process.pid,
            used: process.used.unwrap_or(VALUE_NOT_AVAILABLE),
        }
    }
}

impl Told for ProcessInfo {
    fn new(process: &Process, (gpu_instance, compute_instance): (u32, u32)) -> Self {
        let used = process.used.unwrap_or(VALUE_NOT_AVAILABLE);
        Self {
            pid: process.pid,
            used,
            gpu_instance,
            compute_instance,
        }
    }
}

/// The programs of one sort; a divided GPU tells those of its instances too.
fn processes<T: Told + Copy>(
    at: &str,
    device: Handle,
    kind: ProcessKind,
    list: (*mut c_uint, *mut T),
) -> Result<(), Code> {
    let call = state::enter_device(at, device)?;
    let (whole, instances) = match call.mig() {
        Some(mig) => (&[][..], std::slice::from_ref(mig)),
        None => (&call.gpu()?.processes[..], call.gpu()?.instances()),
    };
    let whole = whole
        .iter()
        .map(|process| (process, (NO_INSTANCE, NO_INSTANCE)));
    let inside = instances.iter().flat_map(|mig| {
        mig.processes
            .iter()
            .map(|process| (process, (mig.gi, mig.ci)))
    });
    let told = whole
        .chain(inside)
        .filter(|(process, _)| process.kind == kind);
    put_list(
        list,
        &told
            .map(|(process, ids)| T::new(process, ids))
            .collect::<Vec<_>>(),
    )
}

fn process_samples(
    at: &str,
    device: Handle,
    list: (*mut c_uint, *mut ProcessSample),
) -> Result<(), Code> {
    let call = state::enter_device(at, device)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let sample = |process: &Process| {
        let time = now.as_micros() as u64;
        Some(ProcessSample {
            pid: process.pid,
            time,
            sm: process.util_sm?,
            memory: 0,
            encoder: 0,
            decoder: 0,
        })
    };
    let samples: Vec<_> = call.gpu()?.processes.iter().filter_map(sample).collect();
    match samples.is_empty() {
        true => Err(Code::NOT_FOUND),
        false => put_list(list, &samples),
    }
}

fn field_values(
    at: &str,
    device: Handle,
    length: c_int,
    values: *mut FieldValue,
) -> Result<(), Code> {
    const UNSIGNED_LONG_LONG: c_uint = 3;
    let call = state::enter_device(at, device)?;
    let gpu = call.gpu()?;
    if values.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    for place in 0..usize::try_from(length).map_err(|_| Code::INVALID_ARGUMENT)? {
        let at = values.wrapping_add(place);
        let asked = take(at)?;
        let (code, value) = match field(gpu, asked.field) {
            Some(value) => (Code::SUCCESS, value),
            None => (Code::NOT_SUPPORTED, 0),
        };
        put(
            at,
            FieldValue {
                value_type: UNSIGNED_LONG_LONG,
                code: code.0,
                value,
                ..asked
            },
        )?;
    }
    Ok(())
}

/// The value of a numbered field; the remapped rows have numbers too.
fn field(gpu: &Gpu, field: u32) -> Option<u64> {
    let rows = gpu.remapped_rows.as_ref();
    gpu.fields.get(&field).copied().or_else(|| match field {
        142 => rows.map(|rows| rows.correctable.into()),
        143 => rows.map(|rows| rows.uncorrectable.into()),
        144 => rows.map(|rows| rows.pending.into()),
        145 => rows.map(|rows| rows.failed.into()),
        _ => None,
    })
}

fn wait_event(at: &str, set: Handle, out: *mut EventData, timeout_ms: c_uint) -> Result<(), Code> {
    system(at)?;
    take(out)?;
    let event = state::wait_event(set, Duration::from_millis(timeout_ms.into()))?;
    put(
        out,
        EventData {
            device: event.device,
            kind: event.kind,
            data: event.data,
            gpu_instance: NO_INSTANCE,
            compute_instance: NO_INSTANCE,
        },
    )
}

fn uuid(call: &Call) -> Result<&str, Code> {
    match call.mig() {
        Some(mig) => Ok(&mig.uuid),
        None => Ok(&call.card()?.uuid),
    }
}

fn index(call: &Call) -> Result<usize, Code> {
    match call.spot {
        Spot::Gpu(index) => Ok(index),
        Spot::System | Spot::Mig(..) => Err(Code::NOT_SUPPORTED),
    }
}

/// What the GPU may be unable to tell.
fn told<T>(value: Option<T>) -> Result<T, Code> {
    value.ok_or(Code::NOT_SUPPORTED)
}

fn check_version(given: c_uint, wanted: c_uint) -> Result<(), Code> {
    match given == wanted {
        true => Ok(()),
        false => Err(Code::ARGUMENT_VERSION_MISMATCH),
    }
}

/// There is one sensor, the GPU's own.
fn check_sensor(sensor: c_uint) -> Result<(), Code> {
    match sensor {
        0 => Ok(()),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

/// The shape of every call about the machine.
fn system(at: &str) -> Result<Call, Code> {
    state::enter(at, |_| Ok(Spot::System))
}

/// The shape of most calls: one device in, one value out.
fn get<T: Copy>(
    at: &str,
    device: Handle,
    out: *mut T,
    read: impl FnOnce(&Call) -> Result<T, Code>,
) -> Result<(), Code> {
    put(out, read(&state::enter_device(at, device)?)?)
}

/// As [`get`] for two values.
fn get_two<T: Copy>(
    at: &str,
    device: Handle,
    (first, second): (*mut T, *mut T),
    read: impl FnOnce(&Call) -> Result<(T, T), Code>,
) -> Result<(), Code> {
    let values = read(&state::enter_device(at, device)?)?;
    put(first, values.0)?;
    put(second, values.1)
}

/// As [`get`] for a text.
fn get_text(
    at: &str,
    device: Handle,
    (out, length): (*mut c_char, c_uint),
    read: impl FnOnce(&Call) -> Result<String, Code>,
) -> Result<(), Code> {
    put_text(out, length, &read(&state::enter_device(at, device)?)?)
}

/// As [`get`] for something between two GPUs, of which the first decides about faults.
fn get_pair<T: Copy>(
    at: &str,
    (one, other): (Handle, Handle),
    out: *mut T,
    read: impl FnOnce(&Call, (usize, usize)) -> Result<T, Code>,
) -> Result<(), Code> {
    let call = state::enter_device(at, one)?;
    let other = state::with(|state| match state.locate(other)? {
        Spot::Gpu(index) => {
            let gpu = &state.scenario().gpus[index];
            state.check_present(gpu)?;
            Ok(gpu.uuid.clone())
        }
        Spot::System | Spot::Mig(..) => Err(Code::NOT_SUPPORTED),
    })?;
    // The scenario may have been replaced between the two looks.
    let other = call.scenario.gpus.iter().position(|gpu| gpu.uuid == other);
    let pair = (index(&call)?, other.ok_or(Code::GPU_IS_LOST)?);
    put(out, read(&call, pair)?)
}

/// Answers the handle of what the call is about.
fn give(call: &Call, out: *mut Handle) -> Result<(), Code> {
    put_handle(uuid(call)?, out)
}

fn put_handle(uuid: &str, out: *mut Handle) -> Result<(), Code> {
    put(out, state::with(|state| Ok(state.handle(uuid)))?)
}

fn put<T: Copy>(out: *mut T, value: T) -> Result<(), Code> {
    if out.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: the caller of the C function vouches for every pointer that is not null.
    unsafe { out.write(value) };
    Ok(())
}

fn take<T: Copy>(from: *const T) -> Result<T, Code> {
    if from.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: as in `put`; all structures consist of numbers, so any content is valid.
    Ok(unsafe { from.read() })
}

fn text<'a>(from: *const c_char) -> Result<&'a str, Code> {
    if from.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: the caller of the C function vouches for a terminated text that outlives the call.
    unsafe { CStr::from_ptr(from) }
        .to_str()
        .map_err(|_| Code::INVALID_ARGUMENT)
}

/// Writes a text with its terminating zero, if both fit.
fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if text.len() >= length as usize {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    let text: Vec<c_char> = text.bytes().chain([0]).map(|byte| byte as c_char).collect();
    put_all(out, &text)
}

/// Writes a list if it fits into the stated number of places, and how long it is in any case.
fn put_list<T: Copy>((length, out): (*mut c_uint, *mut T), values: &[T]) -> Result<(), Code> {
    let room = take(length)? as usize;
    put(length, count(values))?;
    match values.len() {
        0 => Ok(()),
        needed if needed > room => Err(Code::INSUFFICIENT_SIZE),
        _ => put_all(out, values),
    }
}

/// Writes values one after another; the caller has compared their number with the room.
fn put_all<T: Copy>(out: *mut T, values: &[T]) -> Result<(), Code> {
    values
        .iter()
        .enumerate()
        .try_for_each(|(place, value)| match out.is_null() {
            true => Err(Code::INVALID_ARGUMENT),
            false => put(out.wrapping_add(place), *value),
        })
}

/// A text in a member of fixed size, cut if it must be, always terminated.
fn fixed<const N: usize>(text: &str) -> [c_char; N] {
    let mut member = [0; N];
    for (place, byte) in member.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as c_char;
    }
    member
}

fn count<T>(values: &[T]) -> c_uint {
    values.len() as c_uint
}

/// Runs a C function's body: traces it, and turns its outcome, even a panic, into a code.
fn guard(symbol: &'static str, act: impl FnOnce(&'static str) -> Result<(), Code>) -> c_uint {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        trace(symbol);
        act(symbol)
    }));
    match outcome {
        Ok(Ok(())) => Code::SUCCESS.0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

/// Best effort: a trace that cannot be written must not change what a program sees.
pub(crate) fn trace(line: &str) {
    let Some(path) = std::env::var_os(TRACE_VARIABLE) else {
        return;
    };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
