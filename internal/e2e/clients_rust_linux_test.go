package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const (
	rustFetch = `fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let ca = reqwest::Certificate::from_pem(&std::fs::read(&args[2])?)?;
    let mut builder = reqwest::blocking::Client::builder().add_root_certificate(ca);
    if args.len() > 3 {
        builder = builder.no_proxy();
    }
    print!("{}", builder.build()?.get(&args[1]).send()?.error_for_status()?.text()?);
    Ok(())
}
`
	rustPackage = `[package]
name = "fetch"
version = "0.1.0"
edition = "2021"

[dependencies]
reqwest = { version = "*", default-features = false, features = ["blocking", "rustls-tls-manual-roots"] }
`
	// Debian's packages librust-*-dev put sources there.
	rustSources = "/usr/share/cargo/registry"
	rustConfig  = "[source.crates-io]\nreplace-with = 'system'\n[source.system]\ndirectory = '" + rustSources + "'\n"
)

// reqwest builds a client once for all tests.
func reqwest(t *testing.T) string {
	t.Helper()
	if found, _ := filepath.Glob(rustSources + "/reqwest-*"); len(found) == 0 {
		t.Skip("librust-reqwest-dev is not installed")
	}
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("cargo is not installed")
	}
	dir := filepath.Join(base, "rust")
	program := filepath.Join(dir, "fetch")
	if _, err := os.Stat(program); !errors.Is(err, fs.ErrNotExist) {
		return program
	}
	for name, text := range map[string]string{"Cargo.toml": rustPackage, "src/main.rs": rustFetch, ".cargo/config.toml": rustConfig} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("cargo", "build", "--offline", "--quiet")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cargo: %v: %s", err, out)
	}
	made := filepath.Join(dir, "target")
	if err := os.Rename(filepath.Join(made, "debug", "fetch"), program); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(made) // large
	return program
}
