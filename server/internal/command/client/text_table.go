package client

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rivo/uniseg"

	"xuncha/internal/texts"
)

// A textTable is a table whose columns line up on a terminal. There a Chinese
// character is as wide as two Latin letters.
type textTable struct {
	rows    [][]string
	numbers []int // columns that end at the right
}

func newTable(header ...string) *textTable { return &textTable{rows: [][]string{header}} }

func (t *textTable) right(columns ...int) { t.numbers = columns }

// oneLine spells what would end a cell before its end.
var oneLine = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// add adds a row. A cell may have any text: what a terminal would act upon is spelled.
func (t *textTable) add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = oneLine.Replace(texts.Spelled(cell))
	}
	t.rows = append(t.rows, row)
}

func (t *textTable) print(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
			if slices.Contains(t.numbers, i) {
				cell = pad + cell
			} else {
				cell += pad
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
