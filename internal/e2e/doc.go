// Package e2e holds the end-to-end tests: the real binary, run as an ordinary
// user, against real clients and servers in network namespaces of the tests'
// own. It has no other code.
package e2e
