// Package process holds processes of users that root is asked to do something
// with, and says what is so of them: whose they are, where they are, whether the
// number is theirs still. What it reads of /proc is a process's that was alive
// afterwards.
//
// It decides which process may be put into a sandbox's cgroup, and puts those
// back that got there by mistake. It knows no policy.
package process
