// Package bpf holds the kernel programs: their source, the objects made from
// it, and Go types for what they share with the loader. There is no logic here.
//
// The C is licensed GPL-2.0-only, as the kernel asks of programs that call its
// tracing helpers. Objects and Go files are committed, so that building needs
// no compiler for them; bpf.mk makes them again and compares.
package bpf

//go:generate go tool bpf2go -tags linux -target amd64,arm64 -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter" -type abi -type op -type hook -type kind -type part_state -type part -type counter -type sandbox_flag -type socket_bit -type sandbox -type who -type tally_key -type tally -type denial -type gone -type proc -type conn_key -type conn -type unix_key -type call_id Kernel sallyport.bpf.c
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter" -no-global-types -type places -type file_key -type file_value -type file_box -type plant_key -type file_node -type git_name -type file_why LSM lsm.bpf.c
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter" -no-global-types Fexit fexit.bpf.c
