#pragma once

namespace spectrace {

/// Exit codes of the program (docs/manual.md).
enum ExitCode : int { kAllDone = 0, kSomeFailed = 1, kWrongUsage = 2, kNothingReadOrWritten = 3, kStopped = 75 };

}  // namespace spectrace
