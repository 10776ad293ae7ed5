import '../../styles/data.css'
import './dataset.css'
import type { Dataset } from '@mlx-training/sdk'
import type { ComponentChildren } from 'preact'
import { Card, Facts, Stat } from '../../components/facts.tsx'
import { Histogram } from '../../components/histogram.tsx'
import { ShareBar } from '../../components/share-bar.tsx'
import { count, percent } from '../../format.ts'
import { Findings, kindsOf } from './findings.tsx'

export interface ReportProps {
  report: Dataset['report']
  /** Left out where the rows can't be shown. */
  onRow?: (sample: number) => void
  /** Cards beside what it is. */
  children?: ComponentChildren
}

export function Report({ report, onRow, children }: ReportProps) {
  const { statistics, total_samples: total, valid_samples: valid } = report
  const { duplicates } = statistics
  const kinds = kindsOf(report)
  const sum = (severity: string) =>
    kinds.filter((kind) => kind.severity === severity).reduce((all, { times }) => all + times, 0)
  const [errors, warnings] = [sum('error'), sum('warning')]
  return (
    <div class="stack">
      <div class="stats">
        <Stat
          label="Rows"
          value={count(total)}
          note={total === 0 ? 'nothing to learn from' : valid === total ? 'all good' : `${count(valid)} of them good`}
        />
        <Stat
          label="Errors"
          value={count(errors)}
          note={errors === 0 ? 'it can be trained on' : 'to be mended first'}
        />
        <Stat label="Warnings" value={count(warnings)} note={warnings === 0 ? 'nothing to look at' : 'worth a look'} />
        <Stat label="Words a row" value={count(statistics.words?.p50)} note="at the median" />
        <Stat
          label="Duplicates"
          value={count(duplicates.exact + duplicates.normalised)}
          note={`${count(duplicates.same_question)} with another answer`}
        />
      </div>
      <div class="report">
        <div class="stack">
          <Findings kinds={kinds} onRow={onRow} />
          {statistics.characters && (
            <Card title="Lengths">
              <div class="histograms">
                {statistics.characters && (
                  <Histogram title="Characters of a row" of={statistics.characters} unit="characters" />
                )}
                {statistics.words && <Histogram title="Words of a row" of={statistics.words} unit="words" />}
                {statistics.output_words && (
                  <Histogram title="Words of the answers" of={statistics.output_words} unit="words" />
                )}
                {statistics.turns && <Histogram title="Turns of a row" of={statistics.turns} unit="turns" />}
              </div>
            </Card>
          )}
        </div>
        <div class="stack">
          <Card title="What it is">
            <Facts
              facts={[
                ['Format', report.format ?? 'none'],
                ['Found by', report.detection || '–'],
                ...(report.format ? ([['Rows that have it', percent(report.confidence * 100)]] as const) : []),
                ...optional('With tools', statistics.rows_with_tools, 'rows'),
                ...optional('Not learned', statistics.turns_not_learned, 'answers, as the file says'),
              ]}
            />
          </Card>
          <Shares title="Roles" of={statistics.roles} unit="Turns by role" />
          <Shares title="Writing systems" of={statistics.scripts} unit="Rows by writing system" />
          {children}
        </div>
      </div>
    </div>
  )
}

const optional = (name: string, number: number, what: string) =>
  number > 0 ? ([[name, `${count(number)} ${what}`]] as const) : []

const TONES = ['trained', 'masked', 'tool', 's3', 'cut', 'unused']
const ROLES = ['system', 'user', 'assistant', 'tool']

function Shares({ title, of, unit }: { title: string; of: Record<string, number>; unit: string }) {
  const there = Object.entries(of).filter(([, value]) => value > 0)
  if (there.length === 0) return null
  return (
    <Card title={title}>
      <ShareBar
        label={unit}
        shares={there.map(([label, value], i) => ({
          label,
          value,
          tone: ROLES.includes(label) ? label : (TONES[i % TONES.length] as string),
        }))}
      />
    </Card>
  )
}
