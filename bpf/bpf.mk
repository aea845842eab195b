# The kernel programs, made again by the compiler that they are committed from.
# Needs clang and llvm-strip of this version, nothing else.
BPF_CLANG := clang-19

.PHONY: bpf bpf-check
bpf:
	@$(BPF_CLANG) --version >/dev/null || { echo "bpf: $(BPF_CLANG) is not installed" >&2; exit 1; }
	cd bpf && go generate ./...

# Fails if what is committed is not what the source gives.
bpf-check: bpf
	@git diff --exit-code -- bpf || { echo "bpf: run 'make bpf' and commit" >&2; exit 1; }
