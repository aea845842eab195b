package sallyport

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/seatbelt"
)

// macSuggest gives the smallest policy change that would let a denied attempt
// through, where one should be proposed.
func macSuggest(p *policy.Policy, e event.Event) string {
	switch e.Operation {
	case event.SysRefused:
		if e.Object.Syscall == "mach-lookup" {
			return suggestService(string(e.Object.Ref))
		}
	case event.NetBind:
		return "network.allowLocalBinding: true"
	case event.UnixConnect:
		return fmt.Sprintf("network.allowUnixSockets: [%q]", e.Object.Path)
	case event.FileRead, event.FileWrite, event.FileCreate, event.FileDelete, event.FileMeta:
		return p.DecideFile(e.Operation, string(e.Object.Path)).Fix
	}
	return suggest(p, e)
}

// suggestService proposes no service that hands out secrets or starts programs.
func suggestService(name string) string {
	name = strings.TrimSuffix(name, " (xpc)")
	switch {
	case name == seatbelt.TrustdService:
		return "enableWeakerNetworkIsolation: true (Go programs verify TLS by this service; it can reach the network itself)"
	case seatbelt.DangerousService(name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "":
		return ""
	}
	return "network.allowMachLookup: [" + name + "]"
}
