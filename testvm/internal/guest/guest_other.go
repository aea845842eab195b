//go:build !linux

package guest

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

var errLinux = errors.New("test VMs run Linux")

// JobDevice is where a machine finds its job.
const JobDevice = ""

// PortName names the port that reports go to.
const PortName = "report"

// ReadJob works on Linux only.
func ReadJob(string) (report.Job, error) { return report.Job{}, errLinux }

// OpenPort works on Linux only.
func OpenPort() (*os.File, error) { return nil, errLinux }

// Run works on Linux only.
func Run(context.Context, report.Job, io.Writer) error { return errLinux }
