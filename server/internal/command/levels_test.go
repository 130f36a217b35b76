package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportOfAnyLevels imports tables as they are published, with the codes of
// the bureau of statistics and of a city without counties, and asks for what they
// say.
func TestImportOfAnyLevels(t *testing.T) {
	t.Parallel()
	address, _ := serveFolder(t, t.TempDir())
	run := func(args ...string) (stdout, stderr string, err error) {
		return xuncha(t, append(args, "--server", address)...)
	}
	do := func(want string, args ...string) {
		t.Helper()
		if stdout, stderr, err := run(args...); err != nil || !strings.Contains(stdout, want) {
			t.Errorf("%v: got %q, %v (%s); want %q", args, stdout, err, stderr, want)
		}
	}
	refuse := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, err := run(args...)
		if err == nil || !strings.Contains(stderr, want) {
			t.Errorf("%v: got %q, %v (%s); want %q", args, stdout, err, stderr, want)
		}
	}
	const table = "../../../sites/testdata/"
	for file, created := range map[string]string{"c17-nbs-12-digits.csv": "4 created", "c18-no-county-city.csv": "3 created"} {
		do(created, "import", "divisions", "--effective-date", "2019-10-31", table+file)
		do("nothing changed", "import", "divisions", "--effective-date", "2019-10-31", table+file)
	}
	do("1 created, 0 ended", "import", "divisions", "--effective-date", "2019-10-31", sample(t, "nation.csv", []byte("代码,名称,级别,上级代码\n100000000000,中华人民共和国,国家,\n")))
	do("2 created, 0 ended, 0 renamed, 1 regrouped", "import", "divisions", "--effective-date", "2020-01-01", sample(t, "sichuan.csv", []byte(
		"代码,名称,级别,上级代码\n510000000000,四川省,省,100000000000\n511600000000,广安市,市,510000000000\n511602000000,广安区,区,511600000000\n"+
			"511602001000,浓洄街道,街道,511602000000\n511602001001,翠屏路社区居委会,社区,511602001000\n511681000000,华蓥市,市,511600000000\n")))
	refuse("511602001000 is a township; a county lies in a division of a wider level", "import", "divisions", "--effective-date", "2020-01-01",
		sample(t, "wrong.csv", []byte("代码,名称,级别,上级代码\n511681000000,华蓥市,县级市,511602001000\n")))
	const head = "registration_no,name,division_code,registered_on\n"
	do("2 registered", "import", "sites", sample(t, "sites.csv", []byte(head+"1,样例,511602001001,2019-12-31\n2,样例,441900003001,2019-12-31\n")))
	refuse("511602001000 (511602001) 浓洄街道 is a township", "import", "sites", sample(t, "township.csv", []byte(head+"3,样例,511602001000,2019-12-31\n")))
	do("翠屏路社区居委会", "coverage", "100000", "--depth", "5")
	do("岗贝社区", "coverage", "441900000000", "--depth", "2")
}

// TestAccountOfTheNation ensures that an account can be bound to a division in
// any form of its code, and before there is a table.
func TestAccountOfTheNation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := xuncha(t, "account", "create", "--role", "admin", "--username", "root", "--division", "100000000000", "--division", "511600",
		"--password-file", file, "--data", t.TempDir())
	if want := "Created the account root (admin of 100000, 511600).\n"; err != nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}
