//! Names and values of variables of sessions. The rules are the same for what is stored and for
//! what is asked for.

/// Most bytes of one value.
pub const MAX_VALUE: usize = 32 * 1024;

/// Names that steer the start, the choice of GPUs, or are the program's own.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 4] = [
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "SUDO_SESSION_ENABLED",
    ];
    const PREFIXES: [&str; 4] = ["LONGSHORE_", "NVIDIA_", "CUDA_MPS_", "DOCKER_"];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|p| name.starts_with(p))
        || (name.starts_with("LD_") && name != "LD_LIBRARY_PATH")
}

/// What is wrong with a name.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let shown: String = name.chars().take(64).collect();
    let mut bytes = name.bytes();
    let first = bytes.next();
    let good = first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !good {
        return Some(format!(
            "Environment name {shown} must match [A-Za-z_][A-Za-z0-9_]*."
        ));
    }
    is_reserved(name).then(|| format!("Environment name {shown} is reserved."))
}

/// What is wrong with a value; none as a value = it is a list or a map.
#[must_use]
pub fn value_fault(name: &str, value: Option<&str>) -> Option<String> {
    let shown: String = name.chars().take(64).collect();
    let Some(value) = value.filter(|v| v.len() <= MAX_VALUE && !v.contains('\0')) else {
        return Some(format!(
            "Environment value {shown} must be a single value of at most 32 KiB."
        ));
    };
    let paths = matches!(name, "PATH" | "LD_LIBRARY_PATH");
    let relative = paths && value.split(':').any(|dir| !dir.starts_with('/'));
    relative.then(|| format!("{name} may hold absolute directories only."))
}
