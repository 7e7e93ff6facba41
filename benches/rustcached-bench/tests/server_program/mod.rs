//! The server of this workspace.

use std::path::Path;
use std::sync::LazyLock;

/// Returns the server's path. It is built beside the generator.
pub(crate) fn server_program() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_rustcached-bench")).with_file_name("rustcached");
        assert!(path.exists(), "build the server first: cargo build");
        path.to_str().expect("a plain path").to_owned()
    });
    &PATH
}
