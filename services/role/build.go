package role

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// Build is what a binary knows of its own making.
type Build struct {
	// Version is the module's version, or (devel) for a build from a checkout.
	Version string `json:"version"`
	// Revision is the commit, empty where it is not known.
	Revision string `json:"revision,omitzero"`
	// Time is the commit's, in RFC 3339.
	Time string `json:"time,omitzero"`
	// Modified says that the checkout had changes that were not committed.
	Modified bool `json:"modified"`
	// Go is the toolchain's version.
	Go string `json:"go"`
	// Platform is the operating system and the architecture.
	Platform string `json:"platform"`
}

// ReadBuild returns what this binary knows of its making. A version given by the
// linker wins over the module's.
func ReadBuild(linked string) Build {
	build := Build{Version: linked, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		build.Version = cmp.Or(build.Version, "(devel)")
		return build
	}
	build.Version = cmp.Or(linked, info.Main.Version, "(devel)")
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			build.Revision = setting.Value
		case "vcs.time":
			build.Time = setting.Value
		case "vcs.modified":
			build.Modified = setting.Value == "true"
		}
	}
	return build
}
