import type { JobProgress } from './port.ts'

const MAX_WARNINGS = 100

/** A job's warnings with one more: each once, the newest of many. */
export function warned({ warnings }: JobProgress, message: string): string[] {
  return [...new Set([...warnings, message])].slice(-MAX_WARNINGS)
}
