export interface HubName {
  /** `org/name` */
  repo: string
  /** Branch, tag or commit; null: `main`. */
  revision: string | null
}

export interface FineTunedName {
  experiment: string
  /** null: the newest. */
  step: number | null
}

const SEGMENT = /^[A-Za-z0-9](?:[\w.-]{0,94}[\w-])?$/
const REVISION = /^\w(?:[\w./-]{0,126}[\w-])?$/

/** Parses `org/name[@revision]`; null for anything else. Hosts, URLs, `..` and `--` (the cache's separator) are no names,
 *  so a name can never choose whom the server talks to (Ollama's CVE-2026-5530) nor leave the cache's folder. */
export function parseHubName(name: string): HubName | null {
  const [repo = '', revision, ...rest] = name.split('@')
  const segments = repo.split('/')
  if (rest.length || segments.length !== 2 || !segments.every(isSegment)) return null
  if (revision !== undefined && (!REVISION.test(revision) || /\.\.|\/\/|\.lock$/.test(revision))) return null
  return { repo, revision: revision ?? null }
}

/** One folder name of a model's id. */
export const isSegment = (text: string): boolean => SEGMENT.test(text) && !/\.\.|--|\.git$/.test(text)

/** Parses `fine-tuned/NAME[@step-N]`; null when it has another prefix. A malformed rest gives an experiment that isn't there. */
export function parseFineTuned(name: string): FineTunedName | null {
  const match = /^fine-tuned\/(.+?)(?:@step-(\d{1,15}))?$/s.exec(name)
  return match
    ? {
        experiment: match[1] as string,
        step: match[2] === undefined ? null : Number(match[2]),
      }
    : null
}

export const fineTunedName = (experiment: string, step?: number): string =>
  `fine-tuned/${experiment}${step === undefined ? '' : `@step-${step}`}`

/** Whether the user wrote a path rather than a name. */
export const isPath = (name: string): boolean => /^(\/|~\/|\.{1,2}(\/|$))/.test(name) || isGguf(name)

export const isGguf = (name: string): boolean => /\.gguf$/i.test(name)
