//! Compiles the BPF programs: each bpf/NAME.bpf.c becomes OUT_DIR/NAME.skel.rs, a Rust skeleton with the object inside.
//!
//! Only under the feature `xdp`; without it none of it runs and no clang is needed. BPF_CLANG names the compiler (clang 14
//! or newer).
//!
//! And puts the commit into what is built for release, for the reports of `bypath bench`: BYPATH_BUILT_OF at compile time. Not into
//! other builds, which each commit would have compile everything anew. The variable BYPATH_COMMIT names another one, as where a tarball
//! is built; where it is set and empty there is none, and no commit has anything built anew (scripts/test).
//!
//! It runs again when the commit changes, and not with each edit under src, which would have clang run, too. So it cannot see whether the
//! sources are as they were committed, and does not say it: the program does, of the tree it lies in, when it is asked
//! (src/bench/provenance.rs).

#[path = "src/bench/provenance/git.rs"]
mod git;

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-env-changed=BYPATH_COMMIT");
        let commit = env::var("BYPATH_COMMIT").ok().or_else(|| commit(Path::new(".")));
        if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
            println!("cargo::rustc-env=BYPATH_BUILT_OF={commit}");
        }
    }
    #[cfg(feature = "xdp")]
    bpf::build();
}

/// The commit of a tree of git's, which cargo watches from then on; nothing of another, as of a tarball.
fn commit(tree: &Path) -> Option<String> {
    let described = git::describe(tree);
    let mut watched = git::watched(tree);
    if described.is_none() && tree.join(".git").exists() {
        println!(
            "cargo::warning=no commit is put into bypath: git tells none of this tree (is it there? `git describe --always` says why); \
             BYPATH_COMMIT=NAME names one"
        );
        // Without git's word for it: a file of this name in a tree of its own, a folder's in the first.
        watched = vec![tree.join(".git/HEAD"), tree.join(".git")];
        watched.retain(|path| path.is_file());
    }
    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    described
}

#[cfg(feature = "xdp")]
mod bpf {
    use libbpf_cargo::SkeletonBuilder;
    use std::path::{Path, PathBuf};
    use std::{env, process};

    const HELP: &str = "the BPF programs need clang and the headers of the kernel and libbpf: \
        apt install clang libelf-dev zlib1g-dev build-essential pkg-config linux-libc-dev \
        (BPF_CLANG names another clang; --no-default-features builds without BPF)";

    pub fn build() {
        println!("cargo::rerun-if-changed=bpf");
        println!("cargo::rerun-if-env-changed=BPF_CLANG");
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        let mut sources: Vec<PathBuf> = match Path::new("bpf").read_dir() {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(e) => fail(&format!("cannot read bpf/: {e}")),
        };
        sources.sort();
        for source in sources {
            let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(".bpf.c") {
                compile(&source, &out.join(format!("{name}.skel.rs")));
            }
        }
    }

    fn compile(source: &Path, skeleton: &Path) {
        let clang = env::var_os("BPF_CLANG").unwrap_or_else(|| "clang".into());
        // On Debian asm/types.h lies in a folder that only the compiler for the machine itself looks into.
        let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let include = format!("-I/usr/include/{arch}-linux-gnu");
        let mut builder = SkeletonBuilder::new();
        builder
            .source(source)
            .clang(clang)
            .clang_args([include.as_str(), "-Wall", "-Werror", "-mcpu=v3"]);
        if let Err(e) = builder.build_and_generate(skeleton) {
            fail(&format!("{}: {e:#}\n{HELP}", source.display()));
        }
    }

    fn fail(why: &str) -> ! {
        eprintln!("{why}");
        for line in why.lines() {
            println!("cargo::error={line}");
        }
        process::exit(1);
    }
}
