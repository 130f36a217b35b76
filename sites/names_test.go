package sites_test

import (
	"errors"
	"strings"
	"testing"

	"xuncha/internal/texts"
	"xuncha/ledger"
	"xuncha/sites"
)

// TestNames holds which texts are names. What scripts need is one, also of minorities and
// with rare characters; what a terminal would act upon, or nobody sees, is not.
func TestNames(t *testing.T) {
	for name, text := range map[string]string{
		"Chinese": "广安市体育馆（南门）", "WideSpace": "张\u3000三", "MiddleDot": "阿卜杜拉·艾山", "Uyghur": "ئابدۇللا ئەيسا",
		"Tibetan": "བཀྲ་ཤིས་བདེ་ལེགས།", "Mongolian": "ᠴᠠᠭ\u180eᠠ ᠠ\u180b", "Persian": "می\u200cروم", "Joined": "क्\u200dष",
		"Variant": "葛\U000e0100", "Rare": "𠮷𣈥", "PrivateUse": "\ue815", "Emoji": "👮🏽‍♀️ ❤️", "Region": "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "OldKorean": "\u115f\u1161",
		"NoBreakSpace": "a\u00a0b",
	} {
		if err := sites.CheckText("name", text, 1, 64); err != nil {
			t.Errorf("%s: %+q is refused: %v", name, text, err)
		}
		if got := texts.CleanName(text, 64); got != text {
			t.Errorf("%s: %+q is cleaned to %+q", name, text, got)
		}
		if got := texts.Spelled(text); got != text {
			t.Errorf("%s: %+q is spelled %+q", name, text, got)
		}
	}
	for _, test := range []struct{ name, text, cleaned, spelled string }{
		{"Escape", "李\x1b[31m伟", "李[31m伟", `李\u001b[31m伟`},
		{"Bell", "a\x07b", "ab", `a\u0007b`},
		{"OfASingleByte", "a\u009b2Jb", "a2Jb", `a\u009b2Jb`},
		{"LineFeed", "李\n伟", "李 伟", "李\n伟"},
		{"Tab", "李\t伟", "李 伟", "李\t伟"},
		{"CarriageReturn", "李\r伟", "李 伟", `李\u000d伟`},
		{"WindowsLine", "李\r\n伟", "李 伟", `李\u000d` + "\n伟"},
		{"LineSeparator", "李\u2028伟", "李 伟", `李\u2028伟`},
		{"Direction", "a\u202eb", "ab", `a\u202eb`},
		{"Isolate", "a\u2066b\u2069", "ab", `a\u2066b\u2069`},
		{"MarkOfDirection", "\u200f李伟", "李伟", `\u200f李伟`},
		{"ZeroWidthSpace", "李\u200b伟", "李伟", `李\u200b伟`},
		{"ByteOrderMark", "\ufeff李伟", "李伟", `\ufeff李伟`},
		{"SoftHyphen", "ab\u00adc", "abc", `ab\u00adc`},
		{"Tags", "好\U000e0068\U000e0069", "好", `好\udb40\udc68\udb40\udc69`},
		{"Blank", "\u3164\u3164", "", `\u3164\u3164`},
	} {
		err := sites.CheckText("name", test.text, 1, 64)
		if !errors.Is(err, sites.ErrInvalid) {
			t.Errorf("%s: got %v, want it refused", test.name, err)
		}
		if got := texts.CleanName(test.text, 64); got != test.cleaned || sites.CheckText("name", got, 0, 64) != nil {
			t.Errorf("%s: cleaned to %+q, want %+q", test.name, got, test.cleaned)
		}
		if got := texts.Spelled(test.text); got != test.spelled {
			t.Errorf("%s: spelled %+q, want %+q", test.name, got, test.spelled)
		}
	}
	for _, text := range []string{"", " ", "\u3000", "\u200d", "\ufe0f", "\u115f\u1160", "\u2800"} {
		if err := sites.CheckText("name", text, 1, 64); !errors.Is(err, sites.ErrMissing) {
			t.Errorf("%+q: got %v, want that it is missing", text, err)
		}
	}
	if err := sites.CheckText("name", "广安\u200b市", 1, 64); err == nil || !strings.Contains(err.Error(), "U+200B is character 3") {
		t.Errorf("got %v, want it to name the character and where it is", err)
	}
}

// TestNamesOfEarlierVersions holds that a site whose texts are of a time with other rules
// stays as it is, and can be changed and imported like any other.
func TestNamesOfEarlierVersions(t *testing.T) {
	w := newWorld(t)
	w.importDivisions(t, "2019", "2019-10-31")
	const no, name, address = "N\u200b-1", "样\u200b例\x1b[31m", "\u202e某路"
	at := w.now.UTC()
	content, err := ledger.MarshalContent(sites.Content{Site: &sites.Site{
		ID: "3f2504e0-4f89-41d3-9a0c-0305e82c3301", RegistrationNo: no, Name: name, Registered: at,
		Places: []sites.Place{{From: at, Division: village, Address: address}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.Append(t.Context(), ledger.Draft{
		History: ledger.Roster, ID: "3f2504e0-4f89-41d3-9a0c-0305e82c3302", Kind: sites.KindSiteRegistered, Time: at, Account: "test", Content: content,
	}); err != nil {
		t.Fatal(err)
	}
	s := w.open(t)
	by := sites.By{Account: "test"}
	other, same := "某街", name
	site, err := s.UpdateSite(t.Context(), by, "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "", sites.SiteUpdate{Name: &same, Address: &other})
	if err != nil || site.Name != name || site.Places[0].Address != other {
		t.Errorf("got %+v, %v; want another address and the name as it was", site, err)
	}
	row := sites.SiteRow{Row: 2, RegistrationNo: no, Name: name, Division: string(village), Address: other}
	if done, err := s.ImportSites(t.Context(), by, sites.Import{}, []sites.SiteRow{row}); err != nil || done.Unchanged != 1 {
		t.Errorf("got %+v, %v; want the row unchanged", done, err)
	}
	row.Name = name + "二"
	if _, err := s.ImportSites(t.Context(), by, sites.Import{}, []sites.SiteRow{row}); !errors.Is(err, sites.ErrImportRejected) {
		t.Errorf("got %v, want another name of the kind refused", err)
	}
}
