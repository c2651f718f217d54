"""Table 3: eighteen Chinese tasks, a row each. The prompts are ours: the paper gives none.

Where the paper's set is not to be had, a row has a set that stands in, and says so in every table.

Source: WeLM section 4.1, Table 3; shots as given there.
"""

from welm_jax.tasks.examples import (
    cloze_word,
    dureader,
    idiom_fill,
    idioms_fill,
    labelled,
    multi_choice,
    news_summary,
    pair_of_texts,
    pronoun,
    squad,
    web_question,
)
from welm_jax.tasks.prompted import EvalSet, Row

NLI = {"entailment": "蕴含", "neutral": "中立", "contradiction": "矛盾"}
NEWS = {
    "100": "故事",
    "101": "文化",
    "102": "娱乐",
    "103": "体育",
    "104": "财经",
    "106": "房产",
    "107": "汽车",
    "108": "教育",
    "109": "科技",
    "110": "军事",
    "112": "旅游",
    "113": "国际",
    "114": "股票",
    "115": "农业",
    "116": "电竞",
}
# All 119 kinds of apps that IFLYTEK knows, by number, though no split of it shows them all.
APPS = """
打车 地图导航 免费WIFI 租车 同城服务 快递物流 婚庆 家政 公共交通 政务 社区服务 薅羊毛 魔幻 仙侠
卡牌 飞行空战 射击游戏 休闲益智 动作类 体育竞技 棋牌中心 经营养成 策略 MOBA 辅助工具 约会社交
即时通讯 工作社交 论坛圈子 婚恋社交 情侣社交 社交工具 生活社交 微博博客 新闻 漫画 小说 技术 教辅
问答交流 搞笑 杂志 百科 影视娱乐 求职 兼职 视频 短视频 音乐 直播 电台 K歌 成人 中小学 职考
公务员 英语 视频教育 高等教育 成人教育 艺术 语言(非英语) 旅游资讯 综合预定 民航 铁路 酒店
行程管理 民宿短租 出国 工具 亲子儿童 母婴 驾校 违章 汽车咨询 汽车交易 日常养车 行车辅助 租房
买房 装修家居 电子产品 问诊挂号 养生保健 医疗服务 减肥瘦身 美妆美业 菜谱 餐饮店 体育咨讯
运动健身 支付 保险 股票 借贷 理财 彩票 记账 银行 美颜 影像剪辑 摄影修图 相机 绘画 二手 电商 团购
外卖 电影票务 社区超市 购物咨询 笔记 办公 日程管理 女性 经营 收款 其他
""".split()

PASSAGE_QUESTION = "阅读短文，回答问题。\n短文：{context}\n问题：{question}\n答案："
BLANK = "短文：{context}\n问题：{question}\n空格处应填的词是："
PAIR = "句子一：{premise}\n句子二：{hypothesis}\n句子一与句子二的关系是："


def _nli(folder: str, checked: str = "real file") -> EvalSet:
    pair = {"premise": "sentence1", "hypothesis": "sentence2"}
    return EvalSet(
        folder=folder, reader=labelled("label", NLI, drop=("-",), **pair), checked=checked
    )


ROWS = (
    Row(
        name="cmrc2018",
        title="CMRC2018",
        sets=[EvalSet(folder="cmrc2018", reader=squad)],
        prompt=PASSAGE_QUESTION,
        metric="f1_cmrc",
        also=["em_cmrc", "f1_mlqa_zh"],
        shots=1,
        passage="context",
        max_new_tokens=64,
    ),
    Row(
        name="drcd",
        title="DRCD",
        sets=[EvalSet(folder="drcd", reader=squad)],
        prompt=PASSAGE_QUESTION,
        metric="f1_cmrc",
        also=["em_cmrc", "f1_mlqa_zh", "f1_cmrc_simplified", "f1_drcd"],
        shots=1,
        passage="context",
        max_new_tokens=64,
    ),
    Row(
        name="dureader",
        title="DuReader",
        sets=[
            EvalSet(folder="dureader_zhidao", reader=dureader, checked="own fixture"),
            EvalSet(
                folder="dureader_search_demo",
                reader=dureader,
                stands_in="the demo file of DuReader's search part",
            ),
        ],
        prompt="阅读材料，回答问题。\n材料：{context}\n问题：{question}\n回答：",
        metric="rouge1_char",
        shots=1,
        passage="context",
        max_new_tokens=128,
    ),
    Row(
        name="pd",
        title="PD",
        sets=[EvalSet(folder="pd", reader=cloze_word, checked="own fixture")],
        prompt=BLANK,
        metric="acc_exact",
        also=["acc_prefix"],
        shots=2,
        passage="context",
        max_new_tokens=16,
    ),
    Row(
        name="cft",
        title="CFT",
        sets=[EvalSet(folder="cft", reader=cloze_word)],
        prompt=BLANK,
        metric="acc_exact",
        also=["acc_prefix"],
        shots=5,
        passage="context",
        max_new_tokens=16,
    ),
    Row(
        name="chid",
        title="CHID",
        sets=[
            EvalSet(folder="chid10", reader=idioms_fill, checked="own fixture"),
            EvalSet(
                folder="chid10_derived",
                pool="chid",
                reader=idiom_fill,
                stands_in="FewCLUE's ChID of 7 candidates and 3 random ones",
            ),
            EvalSet(folder="chid", reader=idiom_fill, stands_in="FewCLUE's ChID, 7 candidates"),
        ],
        prompt="{before}",
        suffix="{after}",
        metric="acc",
        shots=2,
        passage="before",
    ),
    Row(
        name="cmrc2017",
        title="CMRC2017",
        sets=[EvalSet(folder="cmrc2017", reader=cloze_word)],
        prompt=BLANK,
        metric="acc_exact",
        also=["acc_prefix"],
        shots=2,
        passage="context",
        max_new_tokens=16,
    ),
    Row(
        name="cmnli",
        title="CMNLI",
        sets=[_nli("cmnli", checked="own fixture")],
        prompt=PAIR,
        metric="acc",
        shots=5,
    ),
    Row(
        name="ocnli",
        title="OCNLI",
        sets=[_nli("ocnli")],
        prompt=PAIR,
        metric="acc",
        shots=5,
    ),
    Row(
        name="tnews",
        title="TNEWS",
        sets=[EvalSet(folder="tnews", reader=labelled("label", NEWS, text="sentence"))],
        prompt="新闻标题：{text}\n这条新闻的类别是：",
        metric="acc",
        shots=5,
        negatives=3,
    ),
    Row(
        name="iflytek",
        title="IFLYTEK",
        sets=[
            EvalSet(
                folder="iflytek",
                reader=labelled(
                    "label", {str(at): app for at, app in enumerate(APPS)}, text="sentence"
                ),
            )
        ],
        prompt="应用介绍：{text}\n这款应用的类别是：",
        metric="acc",
        shots=5,
        passage="text",
        negatives=3,
    ),
    Row(
        name="smp_ecisa",
        title="SMP-ECISA",
        sets=[
            EvalSet(  # a line for each Sentence of its XML that has a label
                folder="smp_ecisa",
                reader=labelled("label", {"1": "正面", "2": "负面", "0": "中性"}, text="text"),
                checked="own fixture",
            ),
            EvalSet(
                folder="bdci_car_2018",
                reader=labelled(
                    "sentiment_value", {"1": "正面", "-1": "负面", "0": "中性"}, text="content"
                ),
                stands_in="comments on cars of BDCI 2018",
            ),
        ],
        prompt="文本：{text}\n这段文本的情感倾向是：",
        metric="acc",
        shots=5,
        passage="text",
    ),
    Row(
        name="chnsenticorp",
        title="ChnSentiCorp",
        sets=[
            EvalSet(
                folder="chnsenticorp",
                reader=labelled("label", {"1": "正面", "0": "负面"}, text="text_a"),
            )
        ],
        prompt="评论：{text}\n这条评论的情感倾向是：",
        metric="acc",
        shots=5,
        passage="text",
    ),
    Row(
        name="lcsts",
        title="LCSTS",
        sets=[EvalSet(folder="lcsts", reader=pair_of_texts("content", "title"))],
        prompt="短文：{text}\n用一句话概括这段短文：",
        metric="rouge1_char",
        shots=5,
        passage="text",
        max_new_tokens=64,
        lead=20,
    ),
    Row(
        name="ttnews",
        title="TTNews",
        sets=[
            EvalSet(folder="ttnews", reader=news_summary, checked="own fixture"),
            EvalSet(
                folder="csl_title",
                reader=pair_of_texts("text", "title"),
                stands_in="titles of abstracts, CSL",
            ),
        ],
        prompt="文章：{text}\n用一句话概括这篇文章：",
        metric="rouge1_char",
        shots=5,
        passage="text",
        max_new_tokens=64,
        lead=20,
    ),
    Row(
        name="webqa",
        title="WEBQA",
        sets=[EvalSet(folder="webqa", reader=web_question)],
        prompt="问题：{question}\n答案：",
        metric="f1_cmrc",
        also=["f1_mlqa_zh", "acc_exact", "webqa_strict"],
        shots=5,
        max_new_tokens=32,
    ),
    Row(
        name="wsc2020",
        title="WSC2020",
        sets=[EvalSet(folder="cluewsc", reader=pronoun)],
        prompt="文本：{text}\n问题：文本中的“{pronoun}”指的是“{noun}”吗？\n回答：",
        metric="acc",
        shots=5,
        passage="text",
    ),
    Row(
        name="c3",
        title="C3",
        sets=[EvalSet(folder="c3", reader=multi_choice)],
        prompt="短文：{context}\n问题：{question}\n答案：",
        metric="acc",
        shots=5,
        passage="context",
    ),
)
