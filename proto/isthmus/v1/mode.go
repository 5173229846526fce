package isthmusv1

// Mode is a mesh gateway mode. Comparison is exact and case-sensitive, as in
// Consul; any other text is invalid, wins at its level and is treated as none.
type Mode string

// The modes; ModeInherit leaves the decision to the next level.
const (
	ModeInherit Mode = ""
	ModeNone    Mode = "none"
	ModeLocal   Mode = "local"
	ModeRemote  Mode = "remote"
)

// Valid reports whether the mode is one that Consul documents, or inherit.
func (m Mode) Valid() bool {
	switch m {
	case ModeInherit, ModeNone, ModeLocal, ModeRemote:
		return true
	}
	return false
}

// Effective is what a mode does: invalid and inherited modes behave as none.
func (m Mode) Effective() Mode {
	switch m {
	case ModeLocal, ModeRemote:
		return m
	}
	return ModeNone
}

// levelNames are the levels' names in commands and their JSON.
var levelNames = map[Level]string{
	Level_LEVEL_UPSTREAM:                "upstream",
	Level_LEVEL_OVERRIDE:                "override",
	Level_LEVEL_INSTANCE:                "instance",
	Level_LEVEL_UPSTREAM_DEFAULTS:       "upstream-defaults",
	Level_LEVEL_SERVICE_DEFAULTS:        "service-defaults",
	Level_LEVEL_PROXY_DEFAULTS:          "proxy-defaults",
	Level_LEVEL_TARGET_SERVICE_DEFAULTS: "target-service-defaults",
	Level_LEVEL_DEFAULT:                 "default",
	Level_LEVEL_MERGED:                  "merged",
}

// Name is the level's name in commands and their JSON.
func (l Level) Name() string { return levelNames[l] }

// pathNames are the paths' names in commands and their JSON.
var pathNames = map[Path]string{
	Path_PATH_DIRECT:         "direct",
	Path_PATH_LOCAL_GATEWAY:  "local-gateway",
	Path_PATH_REMOTE_GATEWAY: "remote-gateway",
	Path_PATH_NONE:           "none",
}

// Name is the path's name in commands and their JSON.
func (p Path) Name() string { return pathNames[p] }
