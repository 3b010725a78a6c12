//! Compiles the BPF programs of `bpf/` and writes their skeletons to `OUT_DIR`, for `src/control/bpf.rs` to include. Only
//! with the feature `xdp`; without it a build needs no clang.
//!
//! `BPF_CLANG` names another clang than the one in the path; 14 and later do. Fresh Debian and Ubuntu machines keep
//! `asm/types.h`, which the UAPI headers want, in a folder per architecture that clang does not search for the target bpf.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=BPF_CLANG");
    #[cfg(feature = "xdp")]
    if let Err(message) = programs::build() {
        eprintln!("bypath: error: {message}");
        std::process::exit(1);
    }
}

#[cfg(feature = "xdp")]
mod programs {
    use libbpf_cargo::SkeletonBuilder;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    const PROGRAMS: [&str; 3] = ["steer", "punt", "jiffies"];
    const PACKAGES: &str = "build-essential pkg-config clang m4 libelf-dev zlib1g-dev linux-libc-dev";

    pub fn build() -> Result<(), String> {
        let clang = std::env::var("BPF_CLANG").unwrap_or_else(|_| "clang".into());
        let found = Command::new(&clang).arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!(
                "the BPF programs need clang 14 or newer, and `{clang}` does not run: `apt-get install {PACKAGES}`, or name \
                 another one in BPF_CLANG, or build without them (`--no-default-features`)"
            ));
        }
        let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|e| e.to_string())?);
        for name in PROGRAMS {
            let source = format!("bpf/{name}.bpf.c");
            SkeletonBuilder::new()
                .source(&source)
                .clang(&clang)
                .clang_args(clang_args())
                .build_and_generate(out.join(format!("{name}.skel.rs")))
                .map_err(|e| format!("{source} does not compile (`apt-get install {PACKAGES}`): {e:#}"))?;
        }
        Ok(())
    }

    fn clang_args() -> Vec<String> {
        let mut args = vec!["-Wall".into(), "-mcpu=v3".into()];
        let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let include = format!("/usr/include/{arch}-linux-gnu");
        if Path::new(&include).is_dir() {
            args.push(format!("-I{include}"));
        }
        args
    }
}
