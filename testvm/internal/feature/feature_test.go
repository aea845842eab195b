package feature

import (
	"errors"
	"testing"
)

func TestTableNamesEachFeatureOnce(t *testing.T) {
	seen := map[Name]bool{}
	for _, f := range All {
		if f.Name == "" || f.About == "" || f.Since == (Version{}) {
			t.Errorf("row %+v is not whole", f)
		}
		if seen[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		seen[f.Name] = true
	}
}

func TestResultTellsNoFromUnknown(t *testing.T) {
	tests := map[string]struct {
		err  error
		want Result
	}{
		"there":   {nil, Result{Name: MPTCP, OK: true, Known: true, Detail: "v1"}},
		"missing": {missing("ENOSYS"), Result{Name: MPTCP, Known: true, Detail: "ENOSYS"}},
		"unknown": {errors.New("EIO"), Result{Name: MPTCP, Detail: "EIO"}},
		"no root": {ErrNeedsRoot, Result{Name: MPTCP, NeedsRoot: true, Detail: ErrNeedsRoot.Error()}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := resultOf(MPTCP, func(Name) (string, error) { return "v1", tt.err })
			if got != tt.want {
				t.Errorf("resultOf = %+v, want %+v", got, tt.want)
			}
			for _, kind := range []error{nil, ErrMissing, ErrNeedsRoot} {
				if errors.Is(got.Err(), kind) != errors.Is(tt.err, kind) {
					t.Errorf("Err = %v, want what %v is", got.Err(), tt.err)
				}
			}
		})
	}
}
