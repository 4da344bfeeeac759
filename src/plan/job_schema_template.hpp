#pragma once

namespace spectrace {

/// jobs/job.schema.json as it lay there when the program was built. What the catalogue says stands there too, perhaps
/// of another day: job_schema() puts in today's.
const char* job_schema_template();

}  // namespace spectrace
