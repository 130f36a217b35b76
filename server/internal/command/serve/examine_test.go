package serve

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xuncha/inspections"
)

// uncounted is an examined that counts nothing.
type uncounted struct{}

func (uncounted) Add(int) error { return nil }

// A photo that the disk does not give is a finding like any other, and the rest is read.
func TestExamineUnreadablePhoto(t *testing.T) {
	dir := t.TempDir()
	store, _, err := OpenEngine(t.Context(), dir, EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var list []storedPhoto
	for _, content := range []string{"one", "two", "three"} {
		file := inspections.Digest(sha256.Sum256([]byte(content)))
		list = append(list, storedPhoto{photoKey{inspections.CheckInRef{Site: "site", CheckIn: inspections.CheckInID(content)}, file}, file, 2})
		name := file.String()
		path := filepath.Join(dir, "photos", name[:2], name[2:4], name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		switch content {
		case "one": // which cannot be read as a file
			err = os.MkdirAll(path, 0o700)
		case "three":
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	x := &examination{store: store.(examinable)}
	if err := x.checkPhotos(t.Context(), list, uncounted{}); err != nil {
		t.Fatal(err)
	}
	if len(x.Findings) != 2 || !strings.Contains(x.Findings[0].Why, "cannot be read") || !strings.Contains(x.Findings[1].Why, "is not there") {
		t.Errorf("got %+v, want that one cannot be read, and that another is not there", x.Findings)
	}
}
