package machine

import "github.com/sallyport/sallyport/testvm/internal/feature"

// Box is a machine of the Vagrantfile.
type Box struct {
	Name   string // in the Vagrantfile
	Public string // the box's name, where users pull it from
	Suite  string // the Debian release to build it from; empty: it cannot be built here
	Kernel Kernel // the release's own
}

// Boxes is the table. The first is the one that is run unless others are named.
var Boxes = []Box{
	{Name: "debian12", Public: "debian/bookworm64", Suite: "bookworm", Kernel: Linux61},
	{Name: "debian11", Public: "debian/bullseye64", Suite: "bullseye", Kernel: Linux510},
	{Name: "debian13", Public: "debian/trixie64", Suite: "trixie", Kernel: Linux612},
	{Name: "ubuntu2404", Public: "cloud-image/ubuntu-24.04"},
	{Name: "fedora", Public: "fedora/42-cloud-base"},
}

// Built reports whether the box can be built from a Debian mirror.
func (b Box) Built() bool { return b.Suite != "" }

// Guest is what a box says of itself inside. One that is not built here promises
// nothing: it is no test VM, so that what it lacks is skipped.
func (b Box) Guest() feature.Guest {
	if !b.Built() {
		return feature.Guest{}
	}
	return feature.Guest{Machine: "vagrant-" + b.Name, Without: b.Kernel.Lacks}
}

// FindBox returns the box of a name.
func FindBox(name string) (Box, bool) {
	for _, b := range Boxes {
		if b.Name == name {
			return b, true
		}
	}
	return Box{}, false
}
