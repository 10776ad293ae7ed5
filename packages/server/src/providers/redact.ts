/** Runs of a key that are this long are taken for a part of it. */
const RUN = 8
const LONGEST = 300

/** A provider's words, fit for a log or an answer: without the key, whole, in part or as providers shorten it (`sk-ab**cd`,
 *  "ending in wxyz"), one line of at most 300 characters. */
export function redact(text: string, key: string | null): string {
  const clean = (key ? withoutRuns(text.slice(0, 10_000), key) : text.slice(0, 10_000))
    .replace(/\b(?:sk|pk|tgp|key)[-_][\w*.-]{3,}[\w*-]/g, '[key]')
    .replace(/[\w.-]*\*{3,}(?:[\w*.-]*[\w*-])?/g, '[key]')
    .replace(/\b(Bearer|ending (?:in|with))\s+(["'`]?)[^\s"'`,;]+\2/gi, '$1 [key]')
    .replace(/[\w*-]*(?:\[key\][\w*-]*)+/g, '[key]')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a log must not be written to by what a provider says
    .replace(/[\s\u0000-\u001f\u007f]+/g, ' ')
    .trim()
  return clean.length > LONGEST ? `${clean.slice(0, LONGEST - 1)}…` : clean
}

function withoutRuns(text: string, key: string): string {
  if (key.length < RUN) return text.replaceAll(key, '[key]')
  const runs = new Set(Array.from({ length: key.length - RUN + 1 }, (_, i) => key.slice(i, i + RUN)))
  let clean = ''
  let end = 0
  for (let at = 0; at + RUN <= text.length; at++) {
    if (!runs.has(text.slice(at, at + RUN))) continue
    if (at >= end) clean += `${text.slice(end, at)}[key]`
    end = at + RUN
  }
  return clean + text.slice(end)
}
