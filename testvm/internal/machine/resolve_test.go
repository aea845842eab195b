package machine

import (
	"sort"
	"testing"
)

func TestResolve(t *testing.T) {
	bookworm := []string{
		"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64",
		"linux-image-6.1.0-57-amd64", "linux-image-6.1.0-58-cloud-amd64-dbg", "linux-image-6.1.0-59-cloud-amd64-unsigned",
		"linux-image-6.1.0-60-cloud-arm64", "linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64",
		"linux-image-6.12.101+deb12-cloud-amd64", "linux-image-6.12.90+deb12.1-cloud-amd64", "linux-image-6.12.90+deb12-cloud-amd64",
	}
	backports := []string{
		"linux-image-6.18.9+deb13-cloud-amd64", "linux-image-6.18.15+deb13-cloud-amd64",
		"linux-image-7.3.4+deb13-cloud-amd64", "linux-image-7.2.12+deb13-cloud-amd64", "linux-image-6.19.14+deb13-cloud-amd64",
		"linux-image-7.3.4+deb13-cloud-amd64-dbg",
	}
	tests := map[string]struct {
		series   string
		packages []string
		want     string // empty: an error
	}{
		"newest of a series":        {"6.1", bookworm, "linux-image-6.1.0-56-cloud-amd64"},
		"a longer series is other":  {"6.12", bookworm, "linux-image-6.12.101+deb12-cloud-amd64"},
		"numbers, not letters":      {"6.18", backports, "linux-image-6.18.15+deb13-cloud-amd64"},
		"newest of all":             {"", backports, "linux-image-7.3.4+deb13-cloud-amd64"},
		"a series that is not":      {"6.17", backports, ""},
		"a series is not a pattern": {"6.", backports, ""},
		"no packages":               {"", nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Kernel{Name: "k", Suite: "s", Series: tt.series}.Resolve(tt.packages)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Resolve = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestNaturalLess(t *testing.T) {
	want := []string{"", "6", "6.1", "6.1.0-9", "6.1.0-10", "6.12.90+deb12", "6.12.90+deb12.1", "6.12.101", "7", "a"}
	got := append([]string{}, want...)
	sort.Sort(sort.Reverse(sort.StringSlice(got)))
	sort.SliceStable(got, func(i, j int) bool { return naturalLess(got[i], got[j]) })
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("sorted %q, want %q", got, want)
		}
	}
}

func FuzzNaturalLess(f *testing.F) {
	f.Add("6.1.0-9", "6.1.0-10")
	f.Add("6.12.90+deb12", "6.12.90+deb12.1")
	f.Add("99999999999999999999", "1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if naturalLess(a, b) && naturalLess(b, a) {
			t.Errorf("%q and %q come before each other", a, b)
		}
		if naturalLess(a, a) {
			t.Errorf("%q comes before itself", a)
		}
	})
}
