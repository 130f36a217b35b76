// Package testbinary builds the programs that tests start. Each is a module of
// its own in tools, so that the product depends on none of them.
package testbinary

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build returns the path of the program of tools/name, which is built with the
// flags where there is none of this version in the user's cache folder yet.
func Build(name string, flags ...string) (string, error) {
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(filepath.Dir(strings.TrimSpace(string(root))), "tools", name)
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, file := range append(files, filepath.Join(source, "go.mod"), filepath.Join(source, "go.sum")) {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		// With names and lengths, so that what moves between files counts too.
		fmt.Fprintf(sum, "%s %d\n", filepath.Base(file), len(b))
		sum.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "xuncha-test")
	binary := filepath.Join(cache, fmt.Sprintf("%s-%x", name, sum.Sum(nil)[:8]))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	// Another test may build it at the same time; whoever is last wins.
	temporary, err := os.MkdirTemp(cache, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	command := exec.Command("go", append(append([]string{"build"}, flags...), "-o", filepath.Join(temporary, name), ".")...)
	command.Dir = source
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, out)
	}
	return binary, os.Rename(filepath.Join(temporary, name), binary)
}
