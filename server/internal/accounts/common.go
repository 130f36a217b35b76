package accounts

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// NIST SP 800-63B-4, section 3.1.1.2, has new passwords compared with those that are commonly
// used, and with what follows from the username. With 15 characters and more, those are mostly
// short ones that were made longer: with digits at an end, by writing them twice, or by signs
// in the place of letters. So it is compared what is left without all that.

// commonWords are the words that common passwords are made of: in lower case, in order, a line
// each. third_party/zxcvbn-ts says where they come from; habits.txt has the project's own.
//
//go:embed common_words.txt
var commonWords string

// leastWord is the length in bytes below which a word says nothing about a password.
const leastWord = 4

// leastKinds is how many different characters, beside spaces, a password has at least.
const leastKinds = 4

// shortRepeat is the length in bytes up to which nothing makes a password by being repeated.
const shortRepeat = MinPassword / 2

// isCommon reports whether a password is among the first that somebody would try.
func isCommon(password, username string) bool {
	kinds := map[rune]bool{}
	for _, r := range password {
		if !unicode.IsSpace(r) {
			kinds[r] = true
		}
	}
	if len(kinds) < leastKinds {
		return true
	}
	whole := plainOf(password)
	plain := onceOf(whole)
	if isWalk(plain) || len(plain) < len(whole) && len(plain) <= shortRepeat {
		return true
	}
	for _, text := range []string{plain, leet.Replace(plain)} {
		word, before, after := wordOf(text)
		if word == "" {
			continue
		}
		if isListed(word) || word == firstOf(wordOf(plainOf(username))) {
			return true
		}
		// A name, or next to nothing, with digits that anybody would put there.
		if digits := before + after; (len(word) < leastWord || names().MatchString(word)) && digits != "" && (isWalk(digits) || isListed(digits)) {
			return true
		}
	}
	return isListed(plain)
}

func firstOf(a, _, _ string) string { return a }

// plainOf returns the letters and digits of a text, in lower case. Full-width ones become
// plain, and letters lose their accents.
func plainOf(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("@$!", r) {
			return unicode.ToLower(r)
		}
		return -1
	}, norm.NFKD.String(text))
}

// leet has the signs that are put in the place of letters.
var leet = strings.NewReplacer("@", "a", "4", "a", "3", "e", "1", "i", "!", "i", "0", "o", "$", "s", "5", "s", "7", "t")

// wordOf returns the shortest word that a plain text repeats, without the digits and signs
// at its ends, and those.
func wordOf(text string) (word, before, after string) {
	const digits = "0123456789@$!"
	word = strings.TrimLeft(text, digits)
	before = text[:len(text)-len(word)]
	word, after = strings.TrimRight(word, digits), word[len(strings.TrimRight(word, digits)):]
	return onceOf(word), before, after
}

// onceOf returns the shortest beginning of which a text is a repetition, the last of which
// may be cut off.
func onceOf(text string) string {
	for n := 1; 2*n <= len(text); n++ {
		if text[n:] == text[:len(text)-n] {
			return text[:n]
		}
	}
	return text
}

// isListed reports whether a word is among the common ones.
func isListed(word string) bool {
	if len(word) < leastWord {
		return false
	}
	low, high := 0, len(commonWords) // the starts of lines
	for low < high {
		middle := (low + high) / 2
		start := strings.LastIndexByte(commonWords[:middle], '\n') + 1
		end := start + strings.IndexByte(commonWords[start:], '\n')
		switch strings.Compare(word, commonWords[start:end]) {
		case 0:
			return true
		case 1:
			low = end + 1
		default:
			high = start
		}
	}
	return false
}

// keys are the rows of a keyboard, each half a key to the right of the one above.
var keys = [...]string{"1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"}

// place returns where a key is, in halves of a key to the right.
func place(r rune) (row, column int, ok bool) {
	for row, in := range keys {
		if i := strings.IndexRune(in, r); i >= 0 {
			return row, 2*i + row, true
		}
	}
	return 0, 0, false
}

// follows reports whether somebody who runs over the keyboard, or counts, comes from one key
// to the other.
func follows(a, b rune) bool {
	if a == b || unicode.IsDigit(a) && unicode.IsDigit(b) && ((b-a+10)%10 == 1 || (a-b+10)%10 == 1) {
		return true
	}
	row, column, ok := place(a)
	toRow, toColumn, too := place(b)
	if !ok || !too {
		return false
	}
	down, right := toRow-row, toColumn-column
	return down == 0 && (right == 2 || right == -2) || (down == 1 || down == -1) && (right == 1 || right == -1)
}

// isWalk reports whether a text is made of walks over the keyboard, of three keys or more
// in the middle.
func isWalk(text string) bool {
	walks, n := 0, 0
	var last rune
	for _, r := range text {
		if n == 0 || !follows(last, r) {
			walks++
		}
		last = r
		n++
	}
	return n > 0 && 3*walks <= n
}

// names has a Chinese name in pinyin: a common surname, and one or two syllables.
var names = sync.OnceValue(func() *regexp.Regexp {
	const surnames = `wang|li|zhang|liu|chen|yang|zhao|huang|zhou|wu|xu|sun|hu|zhu|gao|lin|he|guo|ma|luo|liang|song|zheng|xie|han|tang|feng|yu|dong|xiao|cheng|cao|yuan|deng|fu|shen|zeng|peng|lv|lu|su|jiang|cai|jia|ding|wei|xue|ye|yan|pan|du|dai|xia|zhong|tian|ren|fan|fang|shi|yao|tan|liao|zou|xiong|jin|hao|kong|bai|cui|kang|mao|qiu|qin|gu|hou|shao|meng|long|wan|duan|lei|qian|yin|yi|chang|wen|qiao|lai|gong`
	const syllable = `(?:(?:[zcs]h?|[bpmfdtnlgkhjqxryw])?(?:iang|iong|uang|ang|eng|ing|ong|ian|iao|uai|uan|an|en|in|un|ai|ei|ao|ou|ia|ie|iu|ua|uo|ui|ue|er|a|o|e|i|u|v))`
	return regexp.MustCompile(`^(?:` + surnames + `)` + syllable + `{1,2}$`)
})
