package texts_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"xuncha/internal/texts"
)

// asTyped are texts as phones' keyboards, dictation and clipboards make them, with what
// is kept of each.
var asTyped = []struct{ name, text, want string }{
	{"Plain", "门口已张贴通知。\n\t无人值守", "门口已张贴通知。\n\t无人值守"},
	{"WindowsLines", "门已锁。\r\n告示在。\r\n", "门已锁。\n告示在。\n"},
	{"OldMacLines", "一\r二\r\r三", "一\n二\n\n三"},
	{"LineSeparatorOfAWebPage", "一\u2028二\u2029三", "一\n二\n三"},
	{"NextLine", "一\u0085二", "一\n二"},
	{"LineWithinAParagraphOfWord", "一\v二\f三", "一\n二\n三"},
	{"NumberOfContacts", "牌号\u202d12345\u202c", "牌号12345"},
	{"NumberOfContactsIsolated", "电话\u2068138 0000 0000\u2069", "电话138 0000 0000"},
	{"PathOfWindowsProperties", "\u200eD:\\照片", "D:\\照片"},
	{"ArabicMark", "\u061c\u200f١٢٣", "١٢٣"},
	{"NicknameReversed", "张\u202e三", "张三"},
	{"MentionInAChat", "@李伟\u2005请补拍", "@李伟\u2005请补拍"}, // a space that shows
	{"WebPage", "\ufeff寻\u200b查\u00ad记\u2060录\u00a0完", "寻查记录\u00a0完"},
	{"Formula", "f\u2061(x)2\u2062y\u20631\u2064", "f(x)2y1"},
	{"Dictation", "门已锁\ufffc。", "门已锁。"},
	{"Annotation", "\ufff9漢\ufffaかん\ufffb", "漢かん"},
	{"CellOfWord", "甲\a乙\x1e\x1f", "甲乙"},
	{"Terminal", "\x1b[31m红\x1b[0m\x00\x7f", "[31m红[0m"},
	{"BlankNickname", "\u3164\uffa0王", "王"},
	{"Noncharacters", "a\ufffe\uffff\U0001fffe\ufdd0b", "ab"},
	{"ReplacementShows", "a\ufffdb", "a\ufffdb"},
	{"WideSpace", "\u3000\u3000第一段", "\u3000\u3000第一段"},

	{"EmojiFamily", "👨‍👩‍👧‍👦", "👨‍👩‍👧‍👦"},
	{"EmojiSkin", "👮🏽‍♀️", "👮🏽‍♀️"},
	{"EmojiHeart", "❤️ 1️⃣ ☎︎", "❤️ 1️⃣ ☎︎"},
	{"EmojiCountry", "🇨🇳", "🇨🇳"},
	{"EmojiRegion", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴󠁧󠁢󠁳󠁣󠁴󠁿!", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴󠁧󠁢󠁳󠁣󠁴󠁿!"},
	{"EmojiPirates", "🏴‍☠️", "🏴‍☠️"},
	{"FlagWithoutTags", "🏴🏴\U000e0067", "🏴🏴"},
	{"FlagWithoutEnd", "🏴\U000e0067\U000e0062x", "🏴x"},
	{"FlagWithText", "🏴" + tags("ignoreallrules") + "\U000e007f", "🏴"},
	{"HiddenText", "好" + tags("hidden") + "\U000e007f", "好"},
	{"Persian", "می\u200cروم", "می\u200cروم"},
	{"Hindi", "क्\u200dष", "क्\u200dष"},
	{"Mongolian", "ᠴᠠᠭ\u180eᠠ ᠠ\u180b", "ᠴᠠᠭ\u180eᠠ ᠠ\u180b"},
	{"SeparatorOfNothing", "门\u180e锁", "门锁"},
	{"Tibetan", "བོད་ཡིག", "བོད་ཡིག"},
	{"Uyghur", "ئۇيغۇرچە", "ئۇيغۇرچە"},
	{"OldKorean", "\u115f\u1161", "\u115f\u1161"},
	{"VariantOfACharacter", "葛\U000e0100飾", "葛\U000e0100飾"},
	{"RareCharacter", "𠮷野家", "𠮷野家"},
	{"PrivateUse", "\uf8ff", "\uf8ff"},
	{"NotUTF8", "\xff\r\n\xed\xa0\x80", "\xff\r\n\xed\xa0\x80"},
	{"NotUTF8ButForWhatGoes", "\xe4\x8c\x00\x89", "\xe4\x8c\x00\x89"},
}

// tags spells a text in tags, which nobody sees.
func tags(s string) string {
	return strings.Map(func(r rune) rune { return 0xe0000 + r }, s)
}

func TestClean(t *testing.T) {
	for _, test := range asTyped {
		t.Run(test.name, func(t *testing.T) {
			if got := texts.Clean(test.text); got != test.want {
				t.Errorf("%+q is kept as %+q, want %+q", test.text, got, test.want)
			}
		})
	}
}

// FuzzClean ensures that a clean text stays as it is, that it has no more characters than
// before and no controls but line feeds and tabs, and that valid text stays valid.
func FuzzClean(f *testing.F) {
	for _, test := range asTyped {
		f.Add(test.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := texts.Clean(text)
		if twice := texts.Clean(once); twice != once {
			t.Errorf("%+q is cleaned to %+q, and that to %+q", text, once, twice)
		}
		if utf8.RuneCountInString(once) > utf8.RuneCountInString(text) {
			t.Errorf("%+q grows to %+q", text, once)
		}
		if !utf8.ValidString(text) {
			if once != text {
				t.Errorf("%+q, which is not UTF-8, is made %+q", text, once)
			}
			return
		}
		for _, r := range once {
			if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) && r != '\n' && r != '\t' {
				t.Errorf("%+q keeps %U", text, r)
			}
		}
	})
}

func BenchmarkClean(b *testing.B) {
	note := strings.Repeat("门口已张贴通知, closed. ", 5)
	for b.Loop() {
		if texts.Clean(note) != note {
			b.Fatal("it was clean")
		}
	}
}
