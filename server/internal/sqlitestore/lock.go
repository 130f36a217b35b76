package sqlitestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"xuncha/server/internal/engine"
)

// ErrLocked means that another server has the data folder open.
var ErrLocked = errors.New("in use by another xuncha server")

// lockFile is the name of the file that whoever has the folder has locked.
const lockFile = "LOCK"

// lockFolder takes the folder for this process alone, until the file that it
// returns is closed or the process ends, however it ends.
func lockFolder(dir string) (_ *os.File, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if taken, err := engine.TryLock(f); err != nil {
		return nil, fmt.Errorf("locking it: %w", err)
	} else if !taken {
		holder, _ := io.ReadAll(io.LimitReader(f, 64))
		return nil, fmt.Errorf("%w (process %s)", ErrLocked, strings.TrimSpace(string(holder)))
	}
	// The number is for people; the lock does not depend on it.
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		return nil, err
	}
	return f, nil
}
