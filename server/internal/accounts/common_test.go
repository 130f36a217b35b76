package accounts

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCommonWords ensures that the list of common words is in order and has what comparing
// looks for. It makes the list anew where the passwords of a package are given to it.
func TestCommonWords(t *testing.T) {
	habits, err := os.ReadFile("habits.txt")
	if err != nil {
		t.Fatal(err)
	}
	if file := os.Getenv("XUNCHA_COMMON_PASSWORDS"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var passwords []string
		if err := json.Unmarshal(b, &passwords); err != nil {
			t.Fatal(err)
		}
		words := map[string]bool{}
		for _, p := range append(passwords, strings.Fields(string(habits))...) {
			plain := plainOf(p)
			word, _, _ := wordOf(plain)
			for _, w := range []string{word, plain} {
				// Of digits alone, the whole says something.
				if len(w) >= leastWord && (w == word || word == "") {
					words[w] = true
				}
			}
		}
		var out []string
		for w := range words {
			out = append(out, w)
		}
		slices.Sort(out)
		commonWords = strings.Join(out, "\n") + "\n"
		if err := os.WriteFile("common_words.txt", []byte(commonWords), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	words := strings.Split(strings.TrimSuffix(commonWords, "\n"), "\n")
	if len(words) < 30_000 || !slices.IsSorted(words) || len(slices.Compact(slices.Clone(words))) != len(words) {
		t.Fatalf("%d words, which must be many, in order, and each once", len(words))
	}
	for _, w := range words {
		if !isListed(w) {
			t.Errorf("%s is not found", w)
		}
		if isListed(w + "\n") {
			t.Errorf("%s is found with more", w)
		}
	}
	for _, w := range strings.Fields(string(habits)) {
		if !isListed(w) {
			t.Errorf("%s is a habit, and not listed", w)
		}
	}
}

// TestCommonPasswords ensures that what everybody would try first is refused, in all the
// disguises that people put it in, and that passwords are not refused for a word in them.
func TestCommonPasswords(t *testing.T) {
	for _, p := range []string{
		"passwordpassword", "Password1234567", "P@ssw0rd1234567", "p@$$w0rdp@$$w0rd", "password!!!!!!!!", "1234567password",
		"123456789012345", "111111111111111", "111222333444555", "000000000000001", "12345678987654321", "123123123123123",
		"qwertyuiopasdfg", "1qaz2wsx3edc4rfv", "qazwsxedcrfvtgb", "q1w2e3r4t5y6u7i8", "zxcvbnm123456789", "aaaaaaaaaaaaaaa",
		"abcabcabcabcabc", "woaini1314woaini1314", "woaini520520520", "woaini5201314520", "Woaini123456789", "zhangwei1234567",
		"wangxiaoming123456", "li.wei 123456789", "ｐａｓｓｗｏｒｄ１２３４５６７", "iloveyou 20242024", "qwerty123456789", "a12345678901234",
		"manchesterunited", "5201314520131452", "zhongguo12345678", "administrator123", "xuncha2026xuncha2026", "li.weili.weili.wei",
		"Li.Wei-20240101-", "letmeinletmeinletmein", "monkeymonkey12345", "...............", "- - - - - - - - -", "              a",
		"。。。。。。。。。。。。。。。", "天天天天天天天天天天天天天天天", "+-+-+-+-+-+-+-+-*",
	} {
		if err := CheckPassword("password", p, "li.wei"); !strings.Contains(errText(err), "commonly") {
			t.Errorf("%q: got %v, want it to be refused as a common one", p, err)
		}
	}
	for _, p := range []string{
		"correct horse battery", "another horse battery", "correct horse battery staple", "我的密码是一句很长的话没有人知道", "kite-Marble-73-otter",
		"zhangwei loves red lanterns", "abcd-efgh-ijkl-mnop", "13908261234 tea", "xk4t-9pqw-77ab-zz3m-1", "woaini de ren zai nali", "my password is no secret",
		"九月的雨下在广安的老街上还没有停", "woxihuanchipingguo", "haohaoxuexitiantianxiangshang", "sichuanguangan511600", "laowangdegou2019",
	} {
		if err := CheckPassword("password", p, "li.wei"); err != nil {
			t.Errorf("%q: got %v, want it to be taken", p, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("P@ssw0rd1234567", "li.wei")
	f.Add("我的密码是一句很长的话没有人知道", "")
	f.Fuzz(func(t *testing.T, password, username string) {
		if isCommon(password, username) != isCommon(" "+password+"\u3000", username) {
			t.Errorf("%q is judged by the spaces around it", password)
		}
	})
}
