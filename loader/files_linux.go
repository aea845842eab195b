package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/plan"
)

// fileHash is the kernel's: a polynomial over a name's bytes. shift is what it
// is multiplied with where as many bytes follow.
func fileHash(name string) (hash, shift uint64) {
	const odd = 0x9e3779b97f4a7c15
	shift = 1
	for _, c := range []byte(name) {
		hash = (hash + uint64(c) + 1) * odd
		shift *= odd
	}
	return hash, shift
}

// Names that are something to git, in small letters.
var gitNames = map[string]bpf.LSMGitName{
	"head": bpf.LSMGitNameGIT_HEAD, "objects": bpf.LSMGitNameGIT_OBJECTS, "refs": bpf.LSMGitNameGIT_REFS,
	".git": bpf.LSMGitNameGIT_DIR, "modules": bpf.LSMGitNameGIT_INNER, "worktrees": bpf.LSMGitNameGIT_INNER,
}

func places(p plan.Positions) (out bpf.LSMPlaces) {
	out.W = p
	return out
}

// fileBox is what of a table is no name.
func fileBox(t *FileTable) *bpf.LSMFileBox {
	kind := func(k plan.FileKind) bpf.LSMPlaces { return places(t.Kinds[k]) }
	b := &bpf.LSMFileBox{
		Start: places(t.Root.Start), Loop: places(t.Loop), Last: places(t.Last), Hold: places(t.Hold), GlobHold: places(t.GlobHold),
		Hide: kind(plan.FileHide), Show: kind(plan.FileShow), Protect: kind(plan.FileProtect), Root: kind(plan.FileRoot),
		Name: kind(plan.FileName), NameDir: kind(plan.FileNameDir), NameHold: kind(plan.FileNameHold), GitFile: kind(plan.FileGitFile),
		Reads: places(t.Reads), Flags: uint32(t.Root.Flags), Wilds: uint32(len(t.Wilds)),
	}
	if t.Bare {
		b.Bare = 1
	}
	for _, w := range t.Words {
		if !w.Fold {
			b.Words = 1
		}
	}
	for i, w := range t.Wilds {
		to := &b.Wild[i]
		to.Before, _ = fileHash(w.Before)
		to.After, to.Shift = fileHash(w.After)
		to.BeforeLen, to.AfterLen = uint8(len(w.Before)), uint8(len(w.After))
		if w.Fold {
			to.Fold = 1
		}
		to.Places = places(w.Mask)
		for i := range w.Mask {
			b.Wilded.W[i] |= w.Mask[i]
		}
	}
	return b
}

// fileNames are the names of a table, as keys.
func fileNames(id uint64, t *FileTable) map[bpf.LSMFileKey]bpf.LSMFileValue {
	out := make(map[bpf.LSMFileKey]bpf.LSMFileValue, len(t.Edges)+len(t.Words)+len(gitNames))
	add := func(node uint32, name string, v bpf.LSMFileValue) {
		hash, _ := fileHash(name)
		k := bpf.LSMFileKey{Sandbox: id, Name: hash, Node: node}
		old := out[k]
		for i := range v.Places.W {
			v.Places.W[i] |= old.Places.W[i]
		}
		v.Flags |= old.Flags
		out[k] = v
	}
	for _, e := range t.Edges {
		add(e.From, e.Name, bpf.LSMFileValue{Places: places(e.Start), To: e.To, Flags: uint32(e.Flags)})
	}
	for _, w := range t.Words {
		node := bpf.LSMFileNodeNODE_WORD
		if w.Fold {
			node = bpf.LSMFileNodeNODE_FOLD
		}
		add(uint32(node), w.Name, bpf.LSMFileValue{Places: places(w.Mask)})
	}
	for name, flag := range gitNames {
		add(uint32(bpf.LSMFileNodeNODE_FOLD), name, bpf.LSMFileValue{Flags: uint32(flag)})
	}
	return out
}

// addFiles tells the LSM programs a sandbox's rules for names.
func (l *Loader) addFiles(id uint64, t *FileTable) error {
	if t == nil {
		return nil
	}
	names, boxes := l.maps["file_names"], l.maps["file_boxes"]
	if why := l.missing["lsm_open"]; why != nil || names == nil || boxes == nil { // maps there may be without programs
		return fmt.Errorf("tell rules for names of files: %w", errors.Join(ErrMissing, why))
	}
	if len(t.Wilds) > plan.FileWilds {
		return fmt.Errorf("tell rules for names of files: %d names with wildcards", len(t.Wilds))
	}
	entries := fileNames(id, t)
	keys, values := make([]bpf.LSMFileKey, 0, len(entries)), make([]bpf.LSMFileValue, 0, len(entries))
	for k, v := range entries {
		keys, values = append(keys, k), append(values, v)
	}
	if _, err := names.BatchUpdate(keys, values, nil); err != nil {
		return errors.Join(fmt.Errorf("tell names of files: %w", full(err)), l.dropFiles(id))
	}
	if err := boxes.Put(id, fileBox(t)); err != nil { // last: without the names it would let through
		return errors.Join(fmt.Errorf("tell rules for names of files: %w", full(err)), l.dropFiles(id))
	}
	return nil
}

// dropFiles forgets them.
func (l *Loader) dropFiles(id uint64) error {
	if l.maps["file_boxes"] == nil {
		return nil
	}
	err := l.maps["file_boxes"].Delete(id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return errors.Join(err,
		dropKeys(l.maps["file_names"], new(bpf.LSMFileValue), func(k bpf.LSMFileKey) bool { return k.Sandbox == id }),
		dropKeys(l.maps["plants"], new(uint32), func(k bpf.LSMPlantKey) bool { return k.Sandbox == id }))
}

// dropKeys removes some of a map's entries.
func dropKeys[K any](m *ebpf.Map, value any, which func(K) bool) error {
	var k K
	var keys []K
	it := m.Iterate()
	for it.Next(&k, value) {
		if which(k) {
			keys = append(keys, k)
		}
	}
	errs := []error{it.Err()}
	for _, k := range keys {
		if err := m.Delete(k); !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
