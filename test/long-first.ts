import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Seconds of the longest files in `npm test` on two cores. In a new checkout vitest knows of no durations and starts with
 * the largest files, so that the soak, small but long, would start near the end and leave one worker without work.
 */
const SECONDS: Record<string, number> = {
  'test/e2e/main-job.test.ts': 150,
  'test/e2e/soak.test.ts': 119,
  'test/e2e/cli.test.ts': 118,
  'test/e2e/fine-tuning.test.ts': 88,
  'test/e2e/queue.test.ts': 86,
  'test/e2e/restart.test.ts': 74,
  'test/e2e/dashboard-runs.test.ts': 66,
  'test/e2e/readme.test.ts': 64,
  'test/e2e/demo.test.ts': 58,
  'test/e2e/shutdown.test.ts': 50,
  'test/e2e/api-docs.test.ts': 49,
}

/** The longest files first, then the others in vitest's own order. */
export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const seconds = ({ moduleId }: TestSpecification) => SECONDS[relative(this.ctx.config.root, moduleId)] ?? 0
    return (await super.sort(files)).sort((a, b) => seconds(b) - seconds(a))
  }
}
