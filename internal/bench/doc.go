// Package bench holds the measurements of whole runs: the real binary beside
// bubblewrap alone and beside another sandbox. It has no other code.
package bench
