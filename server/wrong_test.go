package main

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// refusals are the reasons for which a server or a command does not start on its store.
// Each is a part of a text in the code, and has a row in the section of operating.md.
// Reasons that flags of the command line give are not among them: they say themselves
// what to change.
var refusals = []string{
	"in use by another xuncha server",
	"not a data file of xuncha",
	"written by a newer version of xuncha",
	"entries that were acknowledged are missing",
	"another database lies in the folder",
	"the database is missing",
	"the database is damaged",
	"the clock looks wrong",
}

const wrongSection = "## When something is wrong\n"

// wrongRow matches a row of the section's tables.
var wrongRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")

// TestWhenSomethingIsWrong holds that the section of operating.md has every message that
// the log can have at level warn or error and every refusal to start, and no other.
func TestWhenSomethingIsWrong(t *testing.T) {
	b, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), wrongSection)
	section, _, found := strings.Cut(section, "\n## ")
	if !found {
		t.Fatalf("docs/operating.md has no section %q with another one after it", wrongSection)
	}
	documented := map[string]bool{}
	for _, row := range wrongRow.FindAllStringSubmatch(section, -1) {
		if documented[row[1]] {
			t.Errorf("docs/operating.md has two rows of `%s`", row[1])
		}
		documented[row[1]] = true
	}
	for _, line := range strings.Split(section, "\n") {
		if strings.HasPrefix(line, "| `") && !wrongRow.MatchString(line) {
			t.Errorf("docs/operating.md: this is no row of the form | `message` | what it means | what to do |:\n%s", line)
		}
	}

	code := readMessages(t)
	for message, where := range code.logged {
		if !documented[message] {
			t.Errorf("%s logs a message that docs/operating.md does not explain. Add to %q, below the heading that fits:\n| `%s` | what it means | what to do |",
				where, strings.TrimSpace(wrongSection), message)
		}
	}
	for _, r := range refusals {
		if !slices.ContainsFunc(code.texts, func(text string) bool { return strings.Contains(text, r) }) {
			t.Errorf("refusals has %q, which no text in the code contains", r)
		}
		if !documented[r] {
			t.Errorf("the server does not start for a reason that docs/operating.md does not explain. Add to %q, below the heading that fits:\n| `%s` | what it means | what to do |",
				strings.TrimSpace(wrongSection), r)
		}
	}
	for message := range documented {
		if code.logged[message] == "" && !slices.Contains(refusals, message) {
			t.Errorf("docs/operating.md explains `%s`, which nothing logs at level warn or error. Where it is a reason not to start, add it to refusals in server/wrong_test.go; else remove the row", message)
		}
	}
}

// messages are the texts in the server's code.
type messages struct {
	logged map[string]string // those logged at level warn or error, with their places
	texts  []string          // all constant texts
}

// readMessages reads the code of the server. A message that is no constant fails the
// test, because nobody could look for it.
func readMessages(t *testing.T) (m messages) {
	m.logged = map[string]string{}
	folders := map[string][]*ast.File{}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, name, nil, 0)
		folders[path.Dir(filepath.ToSlash(name))] = append(folders[path.Dir(filepath.ToSlash(name))], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range folders {
		constants := constantsOf(list)
		for _, file := range list {
			ast.Inspect(file, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if text, ok := textOf(e, constants); ok {
						m.texts = append(m.texts, text)
					}
				}
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				at, ok := loudMessage(call)
				if !ok {
					return true
				}
				where := files.Position(call.Pos()).String()
				if text, ok := textOf(call.Args[at], constants); ok {
					m.logged[text] = where
				} else {
					t.Errorf("%s logs a message that is no constant. Put what varies into attributes", where)
				}
				return true
			})
		}
	}
	return m
}

// loudMessage returns which argument of a call is a message of the log at level warn or
// error.
func loudMessage(call *ast.CallExpr) (at int, ok bool) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !isLog(f.X) {
		return 0, false
	}
	switch f.Sel.Name {
	case "Warn", "Error":
		return 0, true
	case "WarnContext", "ErrorContext":
		return 1, true
	case "Log", "LogAttrs":
		level, ok := call.Args[1].(*ast.SelectorExpr)
		return 2, !ok || level.Sel.Name == "LevelWarn" || level.Sel.Name == "LevelError"
	}
	return 0, false
}

// isLog reports whether an expression is a logger by its name: log, slog, or a field Log.
func isLog(e ast.Expr) bool {
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	}
	return slices.Contains([]string{"log", "Log", "slog", "logger", "Logger"}, name)
}

// constantsOf returns the constants of a package that are texts.
func constantsOf(list []*ast.File) map[string]string {
	out := map[string]string{}
	for _, file := range list {
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				return true
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, v := range spec.Values {
					if text, ok := textOf(v, out); ok {
						out[spec.Names[i].Name] = text
					}
				}
			}
			return true
		})
	}
	return out
}

// textOf returns the text that an expression is, where it is constant.
func textOf(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return constant.StringVal(constant.MakeFromLiteral(e.Value, e.Kind, 0)), true
		}
	case *ast.Ident:
		text, ok := constants[e.Name]
		return text, ok
	case *ast.ParenExpr:
		return textOf(e.X, constants)
	case *ast.BinaryExpr:
		x, okX := textOf(e.X, constants)
		y, okY := textOf(e.Y, constants)
		return x + y, okX && okY && e.Op == token.ADD
	}
	return "", false
}

// TestLoudMessage holds which calls count as messages of the log.
func TestLoudMessage(t *testing.T) {
	for text, want := range map[string]int{
		`log.Error("x")`: 0, `r.log.Warn("x")`: 0, `c.Log.ErrorContext(ctx, "x")`: 1, `slog.Warn("x")`: 0,
		`c.log.LogAttrs(ctx, slog.LevelError, "x")`: 2, `c.log.LogAttrs(ctx, slog.LevelInfo, "x")`: -1,
		`log.Log(ctx, level, "x")`: 2, `log.Info("x")`: -1, `st.Error("x")`: -1, `err.Error()`: -1,
	} {
		e, err := parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := loudMessage(e.(*ast.CallExpr))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%s: got the argument %s, want %s", text, strconv.Itoa(got), strconv.Itoa(want))
		}
	}
}
