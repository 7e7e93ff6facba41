//! The command line: what was typed, checked, becomes a `config::Config`.
