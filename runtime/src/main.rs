//! The one binary: see [`dinrail::cli`].

fn main() -> std::process::ExitCode {
    dinrail::cli::main()
}
