package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows says which packages of ours, and which others, each package may
// import. What a folder is not named here for, it may not do.
var arrows = map[string]struct{ ours, others []string }{
	"ledger":                                {nil, nil},
	"ledger/ledgertest":                     {[]string{"ledger"}, nil},
	"server/internal/engine/enginetest":     {[]string{"ledger", "ledger/ledgertest", "sites", "sites/sitestest", "inspections/photos/photostest", "server/internal/accounts", "server/internal/accounts/accountstest", "server/internal/clock", "server/internal/clock/clocktest"}, nil},
	"server/internal/engine":                {[]string{"ledger"}, []string{"golang.org/x/sys/windows"}},
	"internal/persistent":                   {nil, nil},
	"internal/texts":                        {nil, nil},
	"sites":                                 {[]string{"internal/persistent", "internal/texts", "ledger"}, []string{"github.com/tidwall/btree"}},
	"sites/sitestest":                       {[]string{"ledger/ledgertest", "sites", "ledger"}, nil},
	"inspections":                           {[]string{"internal/texts", "ledger", "sites", "inspections/coverage", "inspections/picture"}, nil},
	"inspections/picture":                   {nil, []string{"golang.org/x/image/"}},
	"inspections/coverage":                  {[]string{"internal/persistent", "ledger", "sites"}, []string{"github.com/tidwall/btree"}},
	"inspections/coverage/slow":             {[]string{"ledger"}, nil}, // so that it shares no mistake with what it checks
	"inspections/photos":                    {[]string{"ledger", "sites", "inspections", "inspections/picture"}, []string{"golang.org/x/sync/singleflight"}},
	"inspections/photos/photostest":         {[]string{"sites", "inspections", "inspections/photos"}, nil},
	"proto/xuncha/v1":                       {nil, []string{"google.golang.org/", "buf.build/gen/"}},
	"server/internal/sqlitestore":           {[]string{"ledger", "sites", "inspections", "inspections/photos", "server/internal/accounts", "server/internal/clock", "server/internal/engine"}, []string{"zombiezen.com/go/sqlite", "modernc.org/sqlite/vfs"}},
	"server/internal/mongostore":            {[]string{"ledger", "sites", "inspections", "inspections/photos", "server/internal/accounts", "server/internal/clock", "server/internal/engine"}, []string{"go.mongodb.org/mongo-driver/v2/", "github.com/google/uuid", "github.com/hashicorp/golang-lru/", "golang.org/x/sync/errgroup"}},
	"server/internal/testbinary":            {nil, nil},
	"server/internal/testdisk":              {nil, []string{"golang.org/x/sys/unix"}},
	"server/internal/accounts/oidctest":     {[]string{"server/internal/testbinary"}, []string{"golang.org/x/oauth2", "github.com/go-jose/go-jose/", "github.com/golang-jwt/jwt/"}},
	"server/internal/mongostore/mongotest":  {[]string{"server/internal/testbinary"}, []string{"go.mongodb.org/mongo-driver/v2/"}},
	"server/internal/accounts":              {[]string{"internal/texts", "ledger", "sites", "server/internal/addresses"}, []string{"golang.org/x/crypto/argon2", "golang.org/x/time/rate", "github.com/google/uuid", "github.com/tidwall/btree", "github.com/go-jose/go-jose/", "github.com/golang-jwt/jwt/", "github.com/hashicorp/golang-lru/", "golang.org/x/sync/errgroup", "golang.org/x/text/secure/precis", "golang.org/x/text/unicode/norm"}},
	"server/internal/accounts/accountstest": {[]string{"ledger", "server/internal/accounts"}, nil},
	"server/internal/clock":                 {[]string{"ledger"}, []string{"golang.org/x/sys/unix"}},
	"server/internal/clock/clocktest":       {[]string{"ledger", "server/internal/clock"}, nil},
	"server/internal/table":                 {nil, []string{"golang.org/x/text/"}},
	"server/internal/sampledata":            {nil, nil},
	"server/internal/rpc": {
		[]string{"ledger", "sites", "inspections", "inspections/coverage", "inspections/photos", "inspections/picture", "proto/xuncha/v1", "server/internal/accounts", "server/internal/addresses", "server/internal/wire"},
		[]string{"google.golang.org/", "buf.build/gen/", "buf.build/go/protovalidate", "github.com/hashicorp/golang-lru/", "golang.org/x/time/rate", "golang.org/x/sync/", "golang.org/x/text/language"},
	},
	"server/internal/testcert":        {nil, nil},
	"server/internal/addresses":       {nil, nil},
	"server/internal/wire":            {[]string{"server/internal/addresses"}, nil},
	"server/internal/command/outcome": {nil, nil},
	"server/internal/snapshot":        {[]string{"ledger", "server/internal/engine"}, nil},
	"client":                          {[]string{"proto/xuncha/v1", "inspections/picture"}, []string{"google.golang.org/", "golang.org/x/sync/singleflight"}},
	// The only package that names an engine, but for the engines' own tests.
	"server/internal/command/serve": {
		[]string{"ledger", "sites", "inspections", "inspections/photos", "inspections/picture", "client", "server/internal/accounts", "server/internal/clock", "server/internal/rpc", "server/internal/mongostore", "server/internal/snapshot", "server/internal/sqlitestore", "server/internal/table", "server/internal/command/outcome", "proto/xuncha/v1", "server/internal/wire"},
		[]string{"google.golang.org/grpc", "github.com/google/uuid", "github.com/schollz/progressbar/", "golang.org/x/term", "golang.org/x/time/rate"},
	},
	"server/internal/command/client": {
		[]string{"client", "proto/xuncha/v1", "internal/texts", "server/internal/table", "server/internal/command/outcome"},
		[]string{"google.golang.org/", "github.com/google/uuid", "github.com/rivo/uniseg", "golang.org/x/term"},
	},
	"server/internal/command/demo": {
		[]string{"client", "proto/xuncha/v1", "server/internal/command/client", "server/internal/command/serve", "server/internal/sampledata"},
		[]string{"google.golang.org/protobuf/", "github.com/google/uuid", "github.com/schollz/progressbar/"},
	},
	"server/internal/command": {
		[]string{"inspections/photos", "server/internal/command/client", "server/internal/command/demo", "server/internal/command/outcome", "server/internal/command/serve", "internal/texts"},
		[]string{"github.com/alecthomas/kong"},
	},
	"server": {[]string{"server/internal/command"}, []string{"github.com/google/uuid"}},
	"bench":  {[]string{"client", "proto/xuncha/v1"}, []string{"google.golang.org/", "github.com/google/uuid", "go.mongodb.org/mongo-driver/v2/", "golang.org/x/net/http2", "golang.org/x/time/rate"}},
}

// TestArrows holds the layout: who imports whom, and that the domain is given
// the time and does not read it.
func TestArrows(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "tools" || d.Name() == "third_party" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		folder := path.Dir(strings.TrimPrefix(filepath.ToSlash(name), "../"))
		rule, ok := arrows[folder]
		if !ok {
			t.Errorf("%s: the folder %s has no rule", name, folder)
			return nil
		}
		seen[folder] = true
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			target, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			switch ours, isOurs := strings.CutPrefix(target, "xuncha/"); {
			case isOurs && !slices.Contains(rule.ours, ours):
				t.Errorf("%s imports %s", name, target)
			case !isOurs && strings.Contains(strings.SplitN(target, "/", 2)[0], ".") &&
				!slices.ContainsFunc(rule.others, func(p string) bool { return strings.HasPrefix(target, p) }):
				t.Errorf("%s imports %s", name, target)
			}
		}
		if strings.HasPrefix(folder, "server") || folder == "bench" || strings.HasSuffix(folder, "test") {
			return nil
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s reads the clock", name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder := range arrows {
		if !seen[folder] {
			t.Errorf("there is a rule for %s, which is not there", folder)
		}
	}
}
