import { RowKeys } from './checks/row-keys.ts'
import { type Base, Findings } from './findings.ts'
import type { Format } from './formats/format.ts'
import { Statistics } from './statistics.ts'
import type { JsonObject } from './words.ts'

export interface FormatCount {
  name: Format['name']
  traits: string
  count: number
  first: { sample: number; line: number }
}

/** What a stretch of rows comes to, whoever read it; samples, lines and bytes count from its beginning. Plain data. */
export class Tally {
  rows = 0
  good = 0
  /** Good rows of which nothing is learned. */
  unlearned = 0
  /** By traits: one format may come in two forms. */
  readonly formats = new Map<string, FormatCount>()
  readonly findings = new Findings()
  readonly statistics = new Statistics()
  readonly keys = new RowKeys()
  preview: JsonObject | null = null

  count({ name, traits }: Format, sample: number, line: number): void {
    const seen = this.formats.get(traits)
    if (seen) seen.count++
    else this.formats.set(traits, { name, traits, count: 1, first: { sample, line } })
  }

  /** That of the rows that come after, with its keys left out. */
  append(later: Tally, base: Base): void {
    this.rows += later.rows
    this.good += later.good
    this.unlearned += later.unlearned
    for (const [traits, each] of later.formats) {
      const seen = this.formats.get(traits)
      if (seen) seen.count += each.count
      else {
        const first = { sample: each.first.sample + base.sample, line: each.first.line + base.line }
        this.formats.set(traits, { ...each, first })
      }
    }
    this.findings.append(later.findings, base)
    this.statistics.append(later.statistics)
    this.preview ??= later.preview
  }
}
