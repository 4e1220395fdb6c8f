package webreport

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"dsoftbus-rig/rig/record"
)

var shots = flag.String("shots", "", "folder for screenshots of the pages that tests open, to be looked at")

// chromium is the one browser of all tests; each has a tab of its own.
var chromium struct {
	once sync.Once
	ctx  context.Context
	err  error
	end  []func()
}

func TestMain(m *testing.M) {
	status := m.Run()
	for _, end := range chromium.end {
		end()
	}
	os.Exit(status)
}

func startBrowser() {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		chromium.err = fmt.Errorf("no Chromium in PATH: scripts/setup -tests installs one")
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WSURLReadTimeout(60*time.Second))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to have one as root
	}
	allocator, end1 := chromedp.NewExecAllocator(context.Background(), options...)
	browser, end2 := chromedp.NewContext(allocator)
	chromium.end = []func(){end2, end1}
	chromium.ctx, chromium.err = browser, chromedp.Do(browser)
}

// A tab is a page that is open. What must not happen in it is collected, and fails the test at its end.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu  sync.Mutex
	bad []string
}

// An action is done in a tab, and gives nothing back.
type action = chromedp.Action[chromedp.Void]

// call is a command of the browser's protocol.
func call[P, R any](command cdp.Command[P, R], params P) action {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// scheme is the system's theme.
func scheme(v string) action {
	return call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v}}})
}

// Sizes of a window, in CSS pixels.
var (
	desk  = chromedp.EmulateViewport(1280, 900)
	phone = chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch)
)

func click(selector string) action { return chromedp.Click(chromedp.CSS(selector)) }

func input(selector, text string) action { return chromedp.SendKeys(chromedp.CSS(selector), text) }

// open opens a page with what a browser needs to be told before, and returns when its script has run.
func open(t *testing.T, file string, before ...action) *tab {
	t.Helper()
	chromium.once.Do(startBrowser)
	if chromium.ctx == nil {
		t.Skip(chromium.err)
	}
	if chromium.err != nil {
		t.Fatalf("start the browser: %v", chromium.err)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext()) // with a storage of its own: the theme is kept there
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(stop)
	b := &tab{t: t, ctx: ctx}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.note("exception: %v", ev.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			b.note("console: %s", ev.Type)
		case *log.EventEntryAdded:
			b.note("log: %s %s", ev.Entry.Level, ev.Entry.Text)
		case *network.EventRequestWillBeSent:
			if u, _, _ := strings.Cut(ev.Request.URL, "#"); u != address {
				b.note("request: %.200s", ev.Request.URL)
			}
		case *cdppage.EventJavascriptDialogOpening:
			b.note("dialog: %s", ev.Message)
			stop() // nothing goes on behind a dialog
		}
	})
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	b.do(call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}), call(cdppage.Enable, cdppage.EnableParams{}))
	b.do(before...)
	b.do(chromedp.Navigate(address), chromedp.WaitReady(chromedp.CSS("#theme")))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, what := range b.bad {
			t.Errorf("%s: %s", filepath.Base(file), what)
		}
	})
	return b
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = append(b.bad, fmt.Sprintf(format, args...))
}

func (b *tab) do(actions ...action) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// eval returns what a JavaScript expression is.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// run runs JavaScript for what it does.
func (b *tab) run(script string) {
	b.t.Helper()
	eval[bool](b, "{"+script+"}; true")
}

// wait waits until an expression is true. The page looks at it by a timer: a tab that is not drawn has no frames.
func (b *tab) wait(expression string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second))); err != nil {
		b.t.Fatalf("wait for %s: %v", expression, err)
	}
}

// shot leaves a picture of the whole page, where somebody wants to look.
func (b *tab) shot(name string) {
	b.t.Helper()
	b.picture(name, chromedp.FullScreenshot(100))
}

// shotOf leaves a picture of one element.
func (b *tab) shotOf(name, selector string) {
	b.t.Helper()
	b.picture(name, chromedp.Screenshot(chromedp.CSS(selector)))
}

func (b *tab) picture(name string, take chromedp.Action[[]byte]) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, take)
	if err != nil {
		b.t.Fatalf("take a picture: %v", err)
	}
	if err := os.MkdirAll(*shots, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// write makes a page of the run in dir, in a folder of its own, and returns its file.
func write(t testing.TB, dir string, o Options) string {
	t.Helper()
	rec, err := record.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Out = filepath.Join(t.TempDir(), File)
	f, err := os.Create(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(f, rec, o); err != nil {
		t.Fatal(err)
	}
	return o.Out
}

func recorded(name string) string { return filepath.Join("testdata", "runs", name) }

// mutable is a copy of a recorded run.
func mutable(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(recorded(name))); err != nil {
		t.Fatal(err)
	}
	return dir
}
