import pytest

from beam_pipelines.clean_rules import Thresholds, apply_rules
from beam_pipelines.document import DropReason
from beam_pipelines.spam import count_spam_words

GAMBLING = [
    "新开的娱乐城，百家乐、轮盘和老虎机样样都有，注册送彩金，每天返水，提款秒到。",
    "新開的娛樂城，百家樂、輪盤和老虎機樣樣都有，註冊送彩金，每天返水，提款秒到。",
    "娱 乐 城 百.家.乐 老-虎-机，注 册 送 彩 金，返　水 天 天 有，欢 迎 您 来。",
    "六合彩开奖结果，一肖一码期期准，彩票计划群，加微信进群，导师带你稳赚不赔。",
    "bet365备用网址，滚球盘口齐全，赔率最高，投注返水，网页版不用下载，随时可玩。",
]
SHOPS = [
    "批发微信号、qq号，出售各种老号，量大从优，自动发货，支持售后，要的加V详谈。",
    "推特帳號批發，臉書老號出售，自動發卡，在線下單，質保一個月，長期供應各國的號。",
    "游戏账号低价转让，另有小号出售，平台担保，假一赔十，有意者联系，非诚勿扰。",
]
GOOD = [
    "东亚博物馆在城市的中心，每年有上百万人参观东亚博物馆，馆里的展品来自三十多个国家。",
    "本届亚博会在城里开幕，三十多个国家参展，亚博会期间还有许多论坛。",
    "三楼的贵宾会议室可以坐二十人，预订贵宾会议室的客人可以免费用投影仪，并有茶点。",
    "请带身份证到就近的现金网点办理，节假日部分现金网点休息，时间以公告为准。",
    "半成品号要先核对，成品号再登记，两种编号不要弄混，错了仓库里就再也找不到货了。",
    "球迷可以登录国家体育官网查赛程，下载体育app看直播，也可以看中国体育官方微博。",
    "金沙网站介绍了遗址怎样被发现，参观的人先在金沙网上预约，再凭证件入馆。",
    "本文摘要：比较了三种办法在小样本上的误差。本文关键词：回归，误差，样本。",
    # Who reports on gambling and on the trade in accounts names all of it.
    "警方近日打掉一个网络赌博平台，平台设百家乐、老虎机、棋牌，以注册送彩金、返水招人下注，主犯已经落网。",
    "法院查明，被告人出售微信号、qq号和各类老号，用自动发货的网站收款，支持售后，获利两万元。",
    "哥哥先玩百家乐，后来玩时时彩，平台注册送彩金，天天返水，他越玩越大，把房子都输了，家人跟着还债。",
    # So does who travels, plays cards, builds games or is a customer.
    "我们在官网订了威尼斯人，下载app办了入住，晚上去葡京看赌场，里面都是老虎机，没有下注就走了。",
    "德州扑克的下注分四轮，玩家可以跟注或弃牌，赔率要自己算，赌场里的老手都数牌。",
    "我们的棋牌客户端要接登录和充值，捕鱼和牛牛都写完了，注册的接口总报错，新的库在哪里下载？",
    "我想在这个平台购买账号，看中一个老号，卖家还在交易，客服说支持担保交易，到底安全吗？",
    "在证券公司开立账号以后才能购买基金，转让份额也在这里，客服二十四小时在线。",
]


@pytest.mark.parametrize("text", GAMBLING + SHOPS)
def test_pages_of_gambling_and_of_account_shops_are_spam(text):
    assert apply_rules([text], Thresholds()) == [DropReason.SPAM]


@pytest.mark.parametrize("text", GOOD)
def test_words_in_words_and_reports_are_not(text):
    assert apply_rules([text], Thresholds()) == [None]


def test_words_count_as_pairs_of_goods_and_offers_less_reports():
    goods, offers = "百家乐、老虎机、六合彩", "返水、首存、稳赚"
    assert count_spam_words([f"{goods}，返水", f"{goods}，返水、首存", f"{goods}，{offers}"]) == [
        1,
        2,
        3,
    ]
    assert count_spam_words(["百家乐、老虎机，" + offers]) == [0]  # two goods are no shop
    assert count_spam_words([f"{goods}，{offers}，骗局"]) == [2]
    assert count_spam_words(["账号、老号、小号，量大，现货"]) == [0]  # none is sold
    assert count_spam_words([f"{goods}，返水，登录", f"{goods}，返水，登录、充值、客服"]) == [1, 2]


def test_a_long_text_that_says_all_of_it_is_no_such_page():
    words = "百家乐、老虎机、六合彩，返水、首存"  # five words: a page of at most 500 characters
    for length, count in ((490, 2), (510, 0)):
        assert count_spam_words([words + "一" * (length - 14)]) == [count]
