//! What becomes of a process in which something panicked.

use tracing::error;

/// From now on a panic ends the process, with a line in the log and one on standard error, but
/// where `guarded` says that whoever runs this thread or task catches it. Any other task holds up
/// something that a daemon cannot do without, and one that is half dead is worse than one that is
/// begun again: systemd does so.
pub fn end_on_panic(program: &'static str, guarded: fn() -> bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map_or_else(|| "somewhere".to_owned(), ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no text");
        error!(%place, text, "panic");
        if !guarded() {
            eprintln!("{program}: panic at {place}: {text}");
            std::process::abort();
        }
    }));
}
