// Command try shows sallyport at work, without a way to the internet: it makes
// a small internet of its own in a network namespace, runs the real binary
// there as an ordinary user, and holds what came out against what its servers
// saw. It leaves nothing behind.
package main
