// Package sallyport runs a command inside a boundary that the kernel enforces
// and records everything that tried to cross it.
package sallyport
