package e2e

import "testing"

const someRequest = `GET / HTTP/1.1\r\nHost: x\r\n\r\n`

// Those of denied names, and all else that is refused on the network, are in the
// table of package bypass.
func TestLookUpsOfAllowedNamesStayInside(t *testing.T) {
	for _, server := range []string{"8.8.8.8", "127.0.0.53", dnsV4, "2001:4860:4860::8888"} {
		for _, network := range []string{"udp", "tcp"} {
			newHome(t).allow("allowed.test").try("dns", network, server, "allowed.test").ok().says("198.18.0.2").nothingDenied()
			silent(t)
		}
	}
}
