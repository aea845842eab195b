# The kernel programs, made again by the compiler that they are committed from.
# Needs clang and llvm-strip of this version, nothing else.
BPF_CLANG := clang-19

.PHONY: bpf bpf-check
bpf: ## make the kernel programs again; needs clang-19 and llvm-19
	@$(BPF_CLANG) --version >/dev/null || { echo "bpf: $(BPF_CLANG) is not installed" >&2; exit 1; }
	cd bpf && $(GO) generate ./...

bpf-check: bpf ## fail if the committed kernel programs are not what the source gives
	@git diff --exit-code -- 'bpf/*_bpfel.*' || { echo "bpf: run 'make bpf' and commit" >&2; exit 1; }
