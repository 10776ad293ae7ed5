/** The same call in several languages, to copy. */
import { useState } from 'preact/hooks'
import { CopyButton } from './copy.tsx'
import { Tabs } from './tabs.tsx'

export interface CodeSample {
  /** curl, SDK, CLI */
  label: string
  code: string
}

export function Code({ code, label = 'Copy the code' }: { code: string; label?: string }) {
  return (
    <div class="code">
      <CopyButton text={code} label={label} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it */}
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </div>
  )
}

export function CodeTabs({ samples, label = 'The same call as' }: { samples: readonly CodeSample[]; label?: string }) {
  const [selected, setSelected] = useState(samples[0]?.label ?? '')
  const tabs = samples.map((sample) => ({
    id: sample.label,
    label: sample.label,
    content: () => <Code code={sample.code} />,
  }))
  return <Tabs label={label} tabs={tabs} selected={selected} onSelect={setSelected} />
}
