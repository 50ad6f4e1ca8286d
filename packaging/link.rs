//! How the programs are linked: a build script of each of them.
//!
//! A program that may lie anywhere in memory has tens of thousands of addresses to be corrected
//! when it starts. Written one by one they are a megabyte of the file, all of which is read and
//! stays in memory; packed (`DT_RELR`) they are ten kilobytes. The C library must know that form:
//! glibc does since 2.36. Where it is older, or another, nothing is different from usual.

use std::process::Command;

/// The first glibc that starts such programs.
const KNOWN_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=../packaging/link.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let (target, host) = (of("TARGET"), of("HOST"));
    // The library of another machine is not known here. Elsewhere another linker may be usual.
    if target == host && target == "x86_64-unknown-linux-gnu" && is_known() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is_known() -> bool {
    let Ok(said) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    version(&String::from_utf8_lossy(&said.stdout)).is_some_and(|found| found >= KNOWN_SINCE)
}

/// Of `glibc 2.36`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
