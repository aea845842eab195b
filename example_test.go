//go:build linux

package sallyport_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/sallyport/sallyport"
)

// A program that calls Run or Start begins its main, or TestMain, with
// sallyport.Init().
func Example() {
	policy := `
network:
  allowedDomains: [api.example.com]
filesystem:
  allowWrite: []
`
	result, err := sallyport.Run(context.Background(), sallyport.Options{
		Command: []string{"sh", "-c", "echo hello; echo x 2>/dev/null >/etc/motd || exit 3"},
		Dir:     "/",
		Policy:  sallyport.LoadOptions{Texts: []sallyport.Text{{Name: "build", Data: []byte(policy)}}},
	})
	if err != nil {
		log.Fatal(err) // it was not started
	}
	fmt.Println("exit status", result.Status)
	// Output:
	// hello
	// exit status 3
}

// Events come as they happen, each with the rule that decided.
func ExampleOptions_onEvent() {
	_, err := sallyport.Run(context.Background(), sallyport.Options{
		Command: []string{"sh", "-c", "getent hosts telemetry.example"},
		Dir:     "/",
		Policy:  sallyport.LoadOptions{Texts: []sallyport.Text{{Name: "none", Data: []byte("network: {deniedDomains: [telemetry.example]}")}}},
		OnEvent: func(e sallyport.Event) {
			if e.Verdict.Denied() && e.Object.Host == "telemetry.example" {
				fmt.Println(e.Operation, e.Object.Host, e.Reason, e.Rule)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// net.dns telemetry.example rule-denied none:1
}

// The rules for hosts can be replaced while the command runs.
func ExampleSandbox_Update() {
	policy := func(text string) sallyport.LoadOptions {
		return sallyport.LoadOptions{Texts: []sallyport.Text{{Name: "policy", Data: []byte(text)}}}
	}
	stdin, lines, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	box, err := sallyport.Start(context.Background(), sallyport.Options{
		Command: []string{"sh", "-c", "while read name; do getent hosts $name >/dev/null && echo $name is allowed; done"},
		Dir:     "/",
		Stdin:   stdin,
		Policy:  policy("network: {allowedDomains: [old.example]}"),
	})
	if err != nil {
		log.Fatal(err)
	}
	change, err := box.Update(policy(`{"network": {"allowedDomains": ["new.example"]}, "env": {"set": {"A": "1"}}}`))
	if err != nil {
		log.Fatal(err) // nothing has changed
	}
	fmt.Println("not before the next run:", change.Fixed)

	fmt.Fprintln(lines, "old.example")
	fmt.Fprintln(lines, "new.example")
	lines.Close()
	if _, err := box.Wait(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// not before the next run: [env.set]
	// new.example is allowed
}
