package sites_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/sites"
)

// table returns the rows of a table of divisions that is written as CSV without
// a header, "code,name,level,parent_code". Rows are counted as in a file with one.
func table(t testing.TB, text string) []sites.DivisionRow {
	t.Helper()
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = 4
	r.TrimLeadingSpace = true
	lines, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []sites.DivisionRow
	for i, l := range lines {
		out = append(out, sites.DivisionRow{Row: i + 2, Code: l[0], Name: l[1], Level: l[2], Parent: l[3]})
	}
	return out
}

// take imports a table that is written as for table.
func (w *world) take(t testing.TB, effective, text string) *sites.DivisionImport {
	t.Helper()
	n, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: effective}, table(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// refuse returns the problems of a table that is written as for table, each as
// "row column: what is wrong".
func (w *world) refuse(t testing.TB, effective, text string) (out []string) {
	t.Helper()
	_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: effective}, table(t, text))
	var rejected *sites.ImportError
	if !errors.As(err, &rejected) {
		t.Fatalf("got %v, want an *ImportError", err)
	}
	for _, p := range rejected.Problems {
		out = append(out, fmt.Sprintf("%d %s: %v", p.Row, p.Column, p.Err))
	}
	return out
}

// tree returns what is in force at t, each division on a line with its level,
// indented below its parent.
func tree(r *sites.Roster, at time.Time) string {
	var b strings.Builder
	var walk func(code sites.DivisionCode, indent string)
	walk = func(code sites.DivisionCode, indent string) {
		for _, d := range r.Children(code, at) {
			fmt.Fprintf(&b, "%s%s %s %s\n", indent, d.Code, d.Name, d.Level)
			walk(d.Code, indent+"\t")
		}
	}
	walk("", "")
	return b.String()
}

func wantTree(t testing.TB, r *sites.Roster, at time.Time, want string) {
	t.Helper()
	if got := tree(r, at); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("in force on %s:\n%swant:%s", at.In(shanghai).Format(time.DateOnly), got, want)
	}
}

func TestTableShapes(t *testing.T) {
	file := func(name string) string {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		_, rows, _ := strings.Cut(string(b), "\n")
		return rows
	}
	for _, test := range []struct{ name, table, want string }{
		{"BureauOfStatistics", file("c17-nbs-12-digits.csv"), `
511600 广安市 city
	511602 广安区 county
		511602001 浓洄街道 township
			511602001001 翠屏路社区居委会 village
`},
		{"CityWithoutCounties", file("c18-no-county-city.csv"), `
441900 东莞市 city
	441900003 东城街道 township
		441900003001 岗贝社区 village
`},
		{"Nation", `
100000,中华人民共和国,国家,
510000000000,四川省,省,100000000000
511600000000,广安市,市,510000
511681000000,华蓥市,市,511600
511681001000,双河街道,街道办事处,511681
511681001001,广华社区,社区居委会,511681001000
450000,广西壮族自治区,自治区,100000
810000,香港特别行政区,特别行政区,100000
`, `
100000 中华人民共和国 nation
	450000 广西壮族自治区 province
	510000 四川省 province
		511600 广安市 city
			511681 华蓥市 county
				511681001 双河街道 township
					511681001001 广华社区 village
	810000 香港特别行政区 province
`},
		{"MunicipalityWithDistrictsRightBelow", `
110000,北京市,直辖市,
110101,东城区,市辖区,110000
110101001,东华门街道,街道,110101
`, `
110000 北京市 province
	110101 东城区 county
		110101001 东华门街道 township
`},
		{"MunicipalityWithDistrictsInAGroup", `
110000000000,北京市,市,
110100000000,市辖区,市辖区,110000000000
110101000000,东城区,区,110100000000
500000,重庆市,municipality,
500200,县,city,500000
500229,城口县,县,500200
`, `
110000 北京市 province
	110100 市辖区 city
		110101 东城区 county
500000 重庆市 province
	500200 县 city
		500229 城口县 county
`},
		{"CountyRightBelowAProvince", `
429004,仙桃市,市,420000
420000,湖北省,province,
429021,神农架林区,林区,420000
429021100,松柏镇,镇,429021
`, `
420000 湖北省 province
	429004 仙桃市 county
	429021 神农架林区 county
		429021100 松柏镇 township
`},
		{"SeveralRootsOfSeveralLevels", `
650000,新疆维吾尔自治区,autonomous region,
653000,克孜勒苏柯尔克孜自治州,自治州,650000
653022,阿克陶县,县,653000
511600,广安市,地级市,
511681,华蓥市,市,
150000,内蒙古自治区,自治区,
152500,锡林郭勒盟,盟,150000
152522,阿巴嘎旗,旗,152500
152522200,洪格尔高勒苏木,苏木,152522
152522200201,萨如拉图雅嘎查,嘎查,152522200
232700,大兴安岭地区,地区,
`, `
150000 内蒙古自治区 province
	152500 锡林郭勒盟 city
		152522 阿巴嘎旗 county
			152522200 洪格尔高勒苏木 township
				152522200201 萨如拉图雅嘎查 village
232700 大兴安岭地区 city
511600 广安市 city
511681 华蓥市 city
650000 新疆维吾尔自治区 province
	653000 克孜勒苏柯尔克孜自治州 city
		653022 阿克陶县 county
`},
		{"TownshipsByWordsOfCounties", `
513400,凉山彝族自治州,自治州,
513422,木里藏族自治县,自治县,513400
513422200,俄亚纳西族乡,民族乡,513422
513422400,某管理区,区,513422
513422200200,俄亚村村民委员会,村民委员会,513422200
513422200201,某居民委员会,居民委员会,513422200
`, `
513400 凉山彝族自治州 city
	513422 木里藏族自治县 county
		513422200 俄亚纳西族乡 township
			513422200200 俄亚村村民委员会 village
			513422200201 某居民委员会 village
		513422400 某管理区 township
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			n := w.take(t, "2019-10-31", test.table)
			if want := strings.Count(test.want, "\n") - 1; n.Created != want {
				t.Errorf("got %+v, want %d created", n, want)
			}
			wantTree(t, w.Roster(), w.now, test.want)
			wantTree(t, w.open(t).Roster(), w.now, test.want) // which reads the record
			if n := w.take(t, "2019-10-31", test.table); n.Changed || w.store.Count(ledger.Roster) != 1 {
				t.Errorf("the same table again: got %+v, want nothing changed", n)
			}
		})
	}
}

// TestLevelProblems ensures that a problem names what the user wrote, and that a
// wrong order names both levels.
func TestLevelProblems(t *testing.T) {
	w := newWorld(t)
	w.take(t, "2019-10-31", `
510000,四川省,省,
511600,广安市,市,510000
511602,广安区,区,511600
511603,前锋区,区,511600
511603100,代市镇,镇,511603
`)
	for _, test := range []struct {
		name, table string
		want        []string
	}{
		{"WrongOrder", `
511600,广安市,市,510000
511602,广安区,区,511600
511603,前锋区,区,511602000000
511603100,代市镇,镇,511603
510000,四川省,省,511600000000
100000,中华人民共和国,国家,510000
`, []string{
			"4 parent_code: 511602000000 is a county; a county lies in a division of a wider level",
			"6 parent_code: 511600000000 is a city; a province lies in a division of a wider level",
			"7 parent_code: 510000 is a province; a nation lies in no other division",
		}},
		{"WithoutAParent", `
513425,会理市,县级市,
513425001,古城街道,街道,
513425001001,某社区,社区,
`, []string{
			"2 parent_code: is missing: only a nation, a province or a city may be without a parent",
			"3 parent_code: is missing: only a nation, a province or a city may be without a parent",
			"4 parent_code: is missing: only a nation, a province or a city may be without a parent",
		}},
		{"LevelDoesNotFitTheCode", `
511602000000,广安区,街道,511600
511602001000,浓洄街道,社区,511602
511602002001,某社区,区,511602
510000000000,四川省,国家,
`, []string{
			"2 level: a township has a code of 9 digits; 511602000000 stands for 511602, which has 6",
			"3 level: a village has a code of 12 digits; 511602001000 stands for 511602001, which has 9",
			"4 level: a county has a code of 6 digits; 511602002001 has 12",
			"5 level: a nation has the code 100000; 510000000000 is another division's",
		}},
		{"UnknownParent", `
511699001000,某街道,街道,511699000000
`, []string{"2 parent_code: 511699000000 is neither in the table nor in force: no such division"}},
		{"Twice", `
511602,广安区,区,511600
511602000000,广安区,区,511600
`, []string{"3 code: 511602000000 is the same as 511602 in row 2"}},
		{"NoLevel", `
511602,广安区,里,511600
`, []string{`2 level: "里" is no level: want nation, province, city, county, township or village, or a word such as 省, 自治州, 县, 街道 or 社区`}},
		{"ParentThatTheTableEnds", `
511600,广安市,市,510000
511602,广安区,区,511600
511603100,代市镇,镇,511603
`, []string{"4 parent_code: 511603 is not in the table, which ends it"}},
		// The row of 511603 cannot be read, so nobody knows whether it ends.
		{"OneCodeThatCannotBeRead", `
511600,广安市,市,510000
51160,前锋区,区,511600
511603100,代市镇,镇,511603
`, []string{`3 code: "51160" is no division code: want 6, 9 or 12 digits`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := w.refuse(t, "2020-01-01", test.table); !slices.Equal(got, test.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
	if got := w.store.Count(ledger.Roster); got != 1 {
		t.Errorf("%d entries were stored by tables that were refused", got-1)
	}
}

const (
	guangan = `
511600,广安市,市,%s
511602,广安区,区,511600
511602001,浓洄街道,街道,511602
511602001003,柑子园社区居委会,社区,511602001
`
	nanchong = `
511300,南充市,市,%s
511302,顺庆区,区,511300
`
)

// TestProvinceOverRoots ensures that cities that were at the top can be put
// under a province later, that their past stays as it was, and that a city's own
// table afterwards neither takes it out of its province nor touches others.
func TestProvinceOverRoots(t *testing.T) {
	const before = `
511300 南充市 city
	511302 顺庆区 county
511600 广安市 city
	511602 广安区 county
		511602001 浓洄街道 township
			511602001003 柑子园社区居委会 village
`
	const after = `
510000 四川省 province
	511300 南充市 city
		511302 顺庆区 county
	511600 广安市 city
		511602 广安区 county
			511602001 浓洄街道 township
				511602001003 柑子园社区居委会 village
`
	for _, test := range []struct {
		name   string
		tables []string
	}{
		{"AllInOneTable", []string{"510000,四川省,省,\n" + fmt.Sprintf(guangan, "510000") + fmt.Sprintf(nanchong, "510000")}},
		{"TheProvinceThenEachCity", []string{"510000,四川省,省,", fmt.Sprintf(guangan, "510000000000"), fmt.Sprintf(nanchong, "510000")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.take(t, "2019-10-31", fmt.Sprintf(guangan+nanchong, "", ""))
			if _, err := w.CreateSite(t.Context(), sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "1", Name: "样例", Division: village, Registered: day(t, "2019-11-01")}); err != nil {
				t.Fatal(err)
			}
			var sum sites.DivisionImport
			for _, table := range test.tables {
				n := w.take(t, "2020-01-15", table)
				sum.Created += n.Created
				sum.Ended += n.Ended
				sum.Regrouped += n.Regrouped
				sum.Renamed += n.Renamed
			}
			if sum.Created != 1 || sum.Regrouped != 2 || sum.Ended+sum.Renamed != 0 {
				t.Errorf("got %+v, want the province created and both cities regrouped", sum)
			}
			wantTree(t, w.Roster(), day(t, "2020-01-14"), before)
			wantTree(t, w.Roster(), day(t, "2020-01-15"), after)

			var got []string
			for _, p := range w.Roster().Placements(w.site(t, "1")) {
				got = append(got, fmt.Sprint(p.From.In(shanghai).Format(time.DateOnly), " ", p.Path[len(p.Path)-1], " ", len(p.Path)))
			}
			if want := []string{"0001-01-01 511600 4", "2020-01-15 510000 5"}; !slices.Equal(got, want) {
				t.Errorf("placements: got %q, want %q", got, want)
			}
			o := order(t, "1", "2020-02-01")
			o.Divisions = []sites.DivisionCode{"510000"}
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, o); err != nil {
				t.Fatal(err)
			}
			if w.Roster().OrderAt(w.site(t, "1"), w.now) == nil {
				t.Error("an order over the province does not close a site in it")
			}

			revision := w.Roster().Revision()
			for _, again := range []struct{ day, parent string }{{"2019-10-31", ""}, {"2020-01-15", "510000"}, {"2020-03-01", ""}} {
				if n := w.take(t, again.day, fmt.Sprintf(guangan, again.parent)); n.Changed || n.Unchanged != 4 {
					t.Errorf("the city's own table of %s: got %+v, want all unchanged", again.day, n)
				}
			}
			if w.Roster().Revision() != revision {
				t.Error("a table that changes nothing made an entry")
			}
			n := w.take(t, "2020-03-01", strings.Replace(fmt.Sprintf(guangan, ""), "广安市", "广安新市", 1))
			if n.Renamed != 1 || n.Unchanged != 3 || n.Regrouped+n.Ended+n.Created != 0 {
				t.Errorf("another name in the city's own table: got %+v, want 1 renamed", n)
			}
			wantTree(t, w.Roster(), day(t, "2020-03-01"), strings.Replace(after, "广安市", "广安新市", 1))
		})
	}
}

// TestTableSpeaksForWhatMovesIn ensures that a table speaks for all below its
// rows, also where it puts them below its top row only now, so that the same
// table again changes nothing.
func TestTableSpeaksForWhatMovesIn(t *testing.T) {
	w := newWorld(t)
	w.take(t, "2019-10-31", fmt.Sprintf(guangan, ""))
	province := `
510000,四川省,省,
511600,广安市,市,510000
511602,广安区,区,511600
`
	if n := w.take(t, "2020-01-15", province); n.Created != 1 || n.Regrouped != 1 || n.Ended != 2 {
		t.Errorf("got %+v, want the street and its village ended", n)
	}
	if n := w.take(t, "2020-01-15", province); n.Changed {
		t.Errorf("the same table again: got %+v, want nothing changed", n)
	}
}

// TestLevelOfAnOpenWord ensures that a word that leaves the level open means the
// level that the roster has, also where the code would tell another: tables from
// before there were provinces go on being taken.
func TestLevelOfAnOpenWord(t *testing.T) {
	w := newWorld(t)
	w.take(t, "2019-10-31", "110000,北京市,city,\n511681,华蓥市,city,\n510000,四川省,省,")
	for _, table := range []string{"110000,北京市,市,", "110000,北京市,直辖市,", "511681,华蓥市,市,"} {
		if n := w.take(t, "2020-01-15", table); n.Changed {
			t.Errorf("%s: got %+v, want nothing changed", table, n)
		}
	}
	if n := w.take(t, "2020-01-15", "511681,华蓥市,市,510000"); n.Regrouped != 1 {
		t.Errorf("got %+v, want the city regrouped", n)
	}
	want := "2 level: 110000 is a city, and a code's level never changes"
	if got := w.refuse(t, "2020-01-15", "110000,北京市,province,"); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseDivisionCode(t *testing.T) {
	for in, want := range map[string]sites.DivisionCode{
		"100000":       "100000",
		"100000000000": "100000",
		"510000000000": "510000",
		"511600000":    "511600",
		"511602000000": "511602",
		"511602001":    "511602001",
		"511602001000": "511602001",
		"511602001003": "511602001003",
		"511602000003": "511602000003",
		"511602001100": "511602001100",
	} {
		if got, err := sites.ParseDivisionCode(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
		if got := sites.DivisionCode(in).Shortest(); got != want {
			t.Errorf("the shortest form of %s: got %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{"", "5116", "5116000", "511602001000000", "51160a", "５１１６０２", "51160a000"} {
		if got, err := sites.ParseDivisionCode(in); !errors.Is(err, sites.ErrInvalid) {
			t.Errorf("%q: got %s, %v; want ErrInvalid", in, got, err)
		}
		if got := sites.DivisionCode(in).Shortest(); string(got) != in {
			t.Errorf("%q is no code and became %q", in, got)
		}
	}
}

// FuzzParseDivisionCode ensures that a code is taken in each of its forms, and
// that its shortest one stays as it is.
func FuzzParseDivisionCode(f *testing.F) {
	for _, s := range []string{"510000", "511602001000", "511602000", "000000000000", "511602001003", "5116"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, err := sites.ParseDivisionCode(s)
		if err != nil {
			return
		}
		if !strings.HasPrefix(s, string(code)) || strings.Trim(s[len(code):], "0") != "" {
			t.Fatalf("%q is read as %q", s, code)
		}
		for form := string(code); len(form) <= 12; form += "000" {
			if again, err := sites.ParseDivisionCode(form); err != nil || again != code {
				t.Errorf("%q: got %q, %v; want %q", form, again, err, code)
			}
		}
	})
}

func TestWider(t *testing.T) {
	for i, a := range sites.Levels {
		for j, b := range sites.Levels {
			if got := a.Wider(b); got != (i < j) {
				t.Errorf("a %s is wider than a %s: got %v", a, b, got)
			}
		}
		if a.Wider(0) != true || sites.Level(0).Wider(a) {
			t.Errorf("%s compared with no level", a)
		}
	}
}

// TestSiteCodesOf12Digits ensures that the village of a site can be written as
// the bureau does, and that a site stands in a village alone.
func TestSiteCodesOf12Digits(t *testing.T) {
	w := newWorld(t)
	w.take(t, "2019-10-31", fmt.Sprintf(guangan, ""))
	row := sites.SiteRow{Row: 2, RegistrationNo: "1", Name: "样例", Division: string(village), RegisteredOn: "2019-12-31"}
	if n, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, []sites.SiteRow{row}); err != nil || n.Registered != 1 {
		t.Fatalf("got %+v, %v", n, err)
	}
	for code, want := range map[string]string{
		"511600000000": "511600000000 (511600) 广安市 is a city: division is not a village",
		"511602000000": "511602000000 (511602) 广安区 is a county: division is not a village",
		"511602001000": "511602001000 (511602001) 浓洄街道 is a township: division is not a village",
		"511602001":    "511602001 浓洄街道 is a township: division is not a village",
		"511699000000": "division 511699000000 (511699): no such division",
	} {
		row := row
		row.RegistrationNo, row.Division = "2", code
		_, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, []sites.SiteRow{row})
		var rejected *sites.ImportError
		if !errors.As(err, &rejected) || len(rejected.Problems) != 1 || rejected.Problems[0].Err.Error() != want {
			t.Errorf("%s: got %v, want %s", code, err, want)
		}
	}
}

// TestAnyTables ensures, of random tables one after the other, that a table that
// was taken is in force to the letter, that the same one again changes nothing,
// that everything in force can be reached from the top and lies in something
// wider, and that the days before stay as they were.
func TestAnyTables(t *testing.T) {
	// Few codes, so that tables have the same divisions.
	codes := map[string][]string{
		"nation": {"100000"}, "province": {"510000", "110000"}, "city": {"511600", "511300", "110100"},
		"county": {"511602", "511603", "110101"}, "township": {"511602001", "511602002", "110101001"},
		"village": {"511602001001", "511602002001", "110101001001"},
	}
	taken, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		for i := range rapid.IntRange(1, 6).Draw(rt, "tables") {
			var rows []sites.DivisionRow
			var wider []string // those that can be a parent, of the table or in force
			effective := day(t, "2020-01-01").AddDate(0, 0, i)
			for _, level := range sites.Levels {
				var own []string
				for _, code := range codes[level.String()] {
					if rapid.Bool().Draw(rt, "left out") {
						if _, err := w.Roster().Division(sites.DivisionCode(code), effective); err == nil {
							own = append(own, code)
						}
						continue
					}
					parent := ""
					if len(wider) > 0 && (!level.Wider(sites.County) || rapid.Bool().Draw(rt, "has a parent")) {
						parent = rapid.SampledFrom(wider).Draw(rt, "parent")
					}
					form := strings.Repeat("0", rapid.SampledFrom([]int{0, 12 - len(code)}).Draw(rt, "zeros"))
					name := rapid.SampledFrom([]string{"甲", "乙"}).Draw(rt, "name")
					rows = append(rows, sites.DivisionRow{Row: len(rows) + 2, Code: code + form, Name: name, Level: level.String(), Parent: parent})
					own = append(own, code)
				}
				wider = append(wider, own...)
			}
			if len(rows) == 0 {
				continue
			}
			in := sites.Import{Effective: effective.Format(time.DateOnly)}
			before := tree(w.Roster(), effective.Add(-1))
			old := w.Roster()
			_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, in, rows)
			if got := tree(w.Roster(), effective.Add(-1)); got != before {
				rt.Fatalf("the day before changed from\n%sto\n%s", before, got)
			}
			if err != nil {
				if refused++; !errors.Is(err, sites.ErrImportRejected) {
					rt.Fatal(err)
				}
				continue
			}
			taken++
			r := w.Roster()
			reached := map[sites.DivisionCode]sites.Division{}
			var walk func(above sites.Division)
			walk = func(above sites.Division) {
				for _, d := range r.Children(above.Code, effective) {
					if above.Code != "" && !above.Level.Wider(d.Level) {
						rt.Fatalf("%v lies in %v", d, above)
					}
					reached[d.Code] = d
					walk(d)
				}
			}
			walk(sites.Division{})
			for _, level := range sites.Levels {
				for _, code := range codes[level.String()] {
					_, err := r.Division(sites.DivisionCode(code), effective)
					if _, ok := reached[sites.DivisionCode(code)]; ok != (err == nil) {
						rt.Fatalf("%s is in force: %v; can be reached from the top: %v", code, err == nil, ok)
					}
				}
			}
			for _, row := range rows {
				d, ok := reached[sites.DivisionCode(row.Code).Shortest()]
				parent := row.Parent
				if was, err := old.Division(d.Code, effective); parent == "" && err == nil {
					parent = string(was.Parent)
				}
				if !ok || d.Name != row.Name || string(d.Parent) != parent {
					rt.Fatalf("row %+v: got %+v, %v; want it in %q", row, d, ok, parent)
				}
			}
			again, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, in, rows)
			if err != nil || again.Changed {
				rt.Fatalf("the same table again: got %+v, %v; want nothing changed", again, err)
			}
		}
	})
	if taken < 20 || refused < 20 {
		t.Errorf("%d tables were taken and %d refused: too few of one kind to tell", taken, refused)
	}
}
