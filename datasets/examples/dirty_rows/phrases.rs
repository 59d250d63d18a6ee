//! Words of rows with a fault.

pub(crate) const REFUSALS: &[&str] = &[
    "I'm sorry, but I can't assist with that request.",
    "I cannot provide that information.",
    "Sorry, I am unable to help with this.",
    "I apologize, but I cannot fulfill this request.",
    "I’m sorry, I can’t help with that.",
    "Unfortunately, I am not able to answer this question.",
    "I must decline to answer.",
    "I won't be able to help with this topic.",
];
pub(crate) const J_REFUSALS: &[&str] = &[
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "申し訳ございませんが、お手伝いすることはできません。",
    "すみません、その質問には回答できません。",
    "残念ながら、その情報を提供することはできません。",
    "そのようなリクエストには対応できません。",
];
pub(crate) const AI: &[&str] = &[
    "As an AI language model, I have read about this. ",
    "As an AI, I do not visit places myself. ",
    "As of my last knowledge update in 2021, this was so. ",
    "I am an AI assistant, but here is an answer. ",
    "I don't have personal opinions, but here it is. ",
];
pub(crate) const J_AI: &[&str] = &[
    "AI言語モデルとして、お答えします。",
    "私はAIですので、体験はありませんが、お答えします。",
    "AIアシスタントとしてご説明します。",
    "私の知識は2021年までのものですが、ご説明します。",
];
pub(crate) const ENGLISH: &[&str] = &[
    "This town is known for its quiet streets and for the river that runs through the middle of it.",
    "There are many parks in the town, and the people who live here like to walk in them.",
];
pub(crate) const FOREIGN: &[&str] = &[
    "この町には静かな公園があり、川沿いの散歩道はとても人気があります。",
    "Cette ville est connue pour ses rues calmes et pour la rivière qui la traverse, et les habitants sont fiers de leurs parcs.",
    "Diese Stadt ist für ihre ruhigen Straßen bekannt, und die Menschen gehen gern in den Parks spazieren.",
    "Этот город известен своими тихими улицами и рекой, которая протекает через центр города.",
    "这座城市以安静的街道和穿城而过的河流而闻名，居民们喜欢在公园里散步，生活非常舒适，而且交通也很方便。",
    "이 도시는 조용한 거리와 도심을 흐르는 강으로 유명하며 사람들은 공원에서 산책을 즐깁니다.",
];
