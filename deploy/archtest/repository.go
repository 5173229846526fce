package archtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Repository reads the files of the git repository at root: those that are
// tracked, and new ones that no ignore rule covers, so that a violation shows
// before it is committed. Only Go files are read; a file deleted from the work
// tree is left out.
func Repository(root string) ([]Source, error) {
	command := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("archtest: list the files of %s: %w", root, err)
	}
	var sources []Source
	for name := range strings.SplitSeq(strings.TrimSuffix(string(output), "\x00"), "\x00") {
		full := filepath.Join(root, filepath.FromSlash(name))
		if _, err := os.Lstat(full); os.IsNotExist(err) {
			continue
		}
		source := Source{Path: name}
		if goFile(name) {
			if source.Content, err = os.ReadFile(full); err != nil {
				return nil, fmt.Errorf("archtest: %w", err)
			}
		}
		sources = append(sources, source)
	}
	return sources, nil
}
