package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// errTests says that the tests fail before anything was changed.
var errTests = errors.New("the tests fail without any mutant")

// errCompile says that a package does not compile.
var errCompile = errors.New("it does not compile")

// builder compiles the tests of packages of the repository at root, with some
// files replaced through an overlay: the work tree is never written to.
type builder struct {
	root string
	// scratch is a folder for overlays and programs.
	scratch string
}

// compile builds the tests of the package in a folder of the repository.
// replaced are files by their path from the top. Possible error: [errCompile].
func (b builder) compile(ctx context.Context, folder string, replaced map[string][]byte) (program string, said []byte, err error) {
	place, err := os.MkdirTemp(b.scratch, "build-")
	if err != nil {
		return "", nil, fmt.Errorf("mutate: %w", err)
	}
	paths := map[string]string{}
	for name, content := range replaced {
		// The compiler names this file, not the one that it replaces.
		changed := filepath.Join(place, filepath.Base(name))
		if err := os.WriteFile(changed, content, 0o600); err != nil {
			return "", nil, fmt.Errorf("mutate: %w", err)
		}
		paths[filepath.Join(b.root, filepath.FromSlash(name))] = changed
	}
	content, err := json.Marshal(map[string]any{"Replace": paths})
	if err != nil {
		return "", nil, fmt.Errorf("mutate: %w", err)
	}
	overlay := filepath.Join(place, "overlay.json")
	if err := os.WriteFile(overlay, content, 0o600); err != nil {
		return "", nil, fmt.Errorf("mutate: %w", err)
	}
	program = filepath.Join(place, "tests")
	// -e: all errors, not the first ten.
	command := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags=-e", "-ldflags=-s -w",
		"-overlay="+overlay, "-o="+program, "./"+folder)
	command.Dir = b.root
	said, err = command.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", nil, context.Cause(ctx)
	case err != nil:
		return "", said, fmt.Errorf("mutate: %s: %w:\n%s", folder, errCompile, said)
	}
	if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("mutate: %s: %w: it has none:\n%s", folder, errTests, said)
	}
	return program, nil, nil
}

// compilerLine finds the file and the line in what the compiler says.
var compilerLine = regexp.MustCompile(`(?m)^(\S+\.go):(\d+):`)

// compileSchema builds one program that holds all trials of a package but those
// that do not compile, which it marks, and those outside of functions, which it
// returns. A trial's number is its place in the list, from 1.
func (b builder) compileSchema(ctx context.Context, folder string, trials []*trial) (program string, outside []*trial, err error) {
	alive := map[string]map[int]mutant{}
	sources := map[string][]byte{}
	for i, t := range trials {
		if alive[t.file] == nil {
			alive[t.file] = map[int]mutant{}
			sources[t.file] = t.source
		}
		t.number = i + 1
		alive[t.file][t.number] = t.mutant
	}
	for {
		files, replaced := map[string]schemaFile{}, map[string][]byte{}
		outside = nil
		for name, mutants := range alive {
			f, others, err := schema(name, sources[name], mutants)
			if err != nil {
				return "", nil, err
			}
			for _, number := range others {
				outside = append(outside, trials[number-1])
			}
			files[filepath.Base(name)], replaced[name] = f, f.source
		}
		replaced[folder+"/zz_living_mutant.go"] = chooserFile(trials[0].packageName)
		program, said, err := b.compile(ctx, folder, replaced)
		if !errors.Is(err, errCompile) {
			return program, outside, err
		}
		found := false
		for _, match := range compilerLine.FindAllSubmatch(said, -1) {
			line, _ := strconv.Atoi(string(match[2]))
			number, ok := files[filepath.Base(string(match[1]))].at(line)
			if !ok {
				continue
			}
			found = true
			t := trials[number-1]
			t.verdict = stillborn
			delete(alive[t.file], number)
		}
		if !found {
			return "", nil, err
		}
	}
}
