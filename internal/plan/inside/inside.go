// Package inside names what stage 2 and whoever plans for it must agree on.
package inside

// Where things stand inside the sandbox.
const (
	InitPath = "/run/sallyport/init"
	// ProxyPath is the proxy as a unix socket, the sandbox's own.
	ProxyPath = "/run/sallyport/proxy.sock"
)

// Descriptors of stage 2.
const (
	FDInit   = 5 // stage 2 <-> supervisor
	FDStderr = 6 // the payload's standard error; bubblewrap has a pipe as 2
)
